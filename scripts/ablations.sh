#!/usr/bin/env bash
# What each part of the recipe of the released models buys: bash scripts/ablations.sh [NAME...]
# Trains class I from espalike-small for EPOCHS (4) epochs of all data, or as many steps with less data, with one part
# changed, and scores all on validation splits; stores as scripts/train_release.sh makes them (runs/hutchison and
# runs/pepconf, too). Finished trainings are kept.
set -euo pipefail
cd "$(dirname "$0")/.."
out=runs/ablations
epochs=${EPOCHS:-4}
labels=${LABELS:-runs/teacher2} # the folder of the teacher's stores
teacher=$labels/shapes,$labels/conformers,$labels/scans,$labels/thermal
all=runs/td,runs/opt,runs/complexes,$teacher,sample
declare -A settings=(
    [all]=""
    [charge-0.5]="objective.charge=0.5"
    [lj-0]="objective.lj=0"
    [lj-1]="objective.lj=1"
    [within]="objective.lj=1 forcefield.term.lennard_jones.within=learned"
    [charge-0]="objective.charge=0"
    [dipole]="objective.dipole=0.3"
    [fixed-14]="forcefield.term.coulomb.scale14=0.8333333333 forcefield.term.lennard_jones.scale14=0.5"
    [no-14]="forcefield.term.coulomb.scale14=0 forcefield.term.lennard_jones.scale14=0"
    [equilibration]="forcefield.term.coulomb.charges=equilibration"
    [no-complexes]="data.stores=[runs/td,runs/opt,$teacher,sample]"
    [no-teacher]="data.stores=[runs/td,runs/opt,runs/complexes,sample] trainer.max_epochs=$((4 * epochs))"
    [own-labels]="data.stores=[$teacher,sample] ~objective.sources.torsiondrives"
    [no-scans]="data.stores=[${all/,$labels\/scans/}]"
    [no-conformers]="data.stores=[${all/$labels\/shapes,$labels\/conformers,/}]"
    [share-0.25]="data.share=0.25 trainer.max_epochs=$((4 * epochs))"
    [share-0.5]="data.share=0.5 trainer.max_epochs=$((2 * epochs))"
    [six-cosines]="forcefield.term.periodic_proper.smallest=0 objective.sparse=0"
    [class2]="start=espalike-class2 forcefield=class2"
)
order=(all no-teacher no-complexes no-conformers share-0.25 share-0.5 lj-0 lj-1 charge-0 fixed-14 no-14 charge-0.5 equilibration
    own-labels no-scans six-cosines class2 dipole within)
[ $# -eq 0 ] || order=("$@")

models=""
for name in "${order[@]}"; do
    read -ra changes <<<"${settings[$name]}"
    [ -e "$out/$name/model.espalike" ] || espalike train experiment=release "out=$out/$name" resume=auto optimizer.lr=1e-3 \
        "data.stores=[$all]" trainer.max_epochs="$epochs" "trainer.check_val_every_n_epoch=$epochs" "${changes[@]}"
    models+="$out/$name/model.espalike,"
done
for set in runs/td runs/hutchison runs/pepconf sample runs/complexes; do
    espalike evaluate "model=[${models%,}]" "data.path=$set" data.split=val "out=$out/val/${set##*/}"
done
