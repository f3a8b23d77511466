#!/usr/bin/env bash
# What each part of the recipe of the released models buys: bash scripts/ablations.sh [NAME...]
# Trains class I from espalike-small for 8 epochs with one part changed, and scores all on validation splits; stores as
# scripts/train_release.sh makes them (runs/hutchison and runs/pepconf, too). Finished trainings are kept.
set -euo pipefail
cd "$(dirname "$0")/.."
out=runs/ablations
teacher=runs/teacher/shapes,runs/teacher/conformers,runs/teacher/scans,runs/teacher/thermal
declare -A settings=(
    [all]=""
    [charge-0.5]="objective.charge=0.5"
    [charge-0]="objective.charge=0"
    [fixed-14]="forcefield.term.coulomb.scale14=0.8333333333 forcefield.term.lennard_jones.scale14=0.5"
    [no-14]="forcefield.term.coulomb.scale14=0 forcefield.term.lennard_jones.scale14=0"
    [equilibration]="forcefield.term.coulomb.charges=equilibration"
    [no-complexes]="data.stores=[runs/td,runs/opt,$teacher,sample]"
    [no-teacher]="data.stores=[runs/td,runs/opt,runs/complexes,sample]"
    [own-labels]="data.stores=[$teacher,sample] ~objective.sources.torsiondrives"
    [no-scans]="data.stores=[runs/td,runs/opt,runs/complexes,${teacher/,runs\/teacher\/scans/},sample]"
    [share-0.25]="data.share=0.25"
    [share-0.5]="data.share=0.5"
    [six-cosines]="forcefield.term.periodic_proper.smallest=0 objective.sparse=0"
    [class2]="start=espalike-class2 forcefield=class2"
)
order=(all charge-0.5 charge-0 fixed-14 no-14 equilibration no-complexes no-teacher own-labels share-0.25 share-0.5
    no-scans six-cosines class2)
[ $# -eq 0 ] || order=("$@")

models=""
for name in "${order[@]}"; do
    read -ra changes <<<"${settings[$name]}"
    [ -e "$out/$name/model.espalike" ] || espalike train experiment=release "out=$out/$name" resume=auto optimizer.lr=1e-3 \
        trainer.max_epochs=8 trainer.check_val_every_n_epoch=4 "${changes[@]}"
    models+="$out/$name/model.espalike,"
done
for set in runs/td runs/hutchison runs/pepconf sample runs/complexes; do
    espalike evaluate "model=[${models%,}]" "data.path=$set" data.split=val "out=$out/val/${set##*/}"
done
