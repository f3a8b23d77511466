#!/usr/bin/env bash
# Makes the released models, `espalike-1` (class I) and `espalike-2` (class II): bash scripts/train_release.sh DATA, where
# DATA holds openff_torsiondrives_forces.h5, openff_opt_geometries.h5, nci_atlas_dimers.h5, hutchison_conformers.h5 and
# pepconf.h5 (of these two the training molecules are taken, never the energies). Each stage prints its time. A stage that has finished is not repeated, and one
# that was stopped goes on: run the same command again.
#
# Without DATA, bash scripts/train_release.sh own trains on own labels alone: the teacher's and the embedded set.
set -euo pipefail
cd "$(dirname "$0")/.."
data=${1:?usage: bash scripts/train_release.sh DATA, or own}
out=runs/release

stage() { # NAME COMMAND...: a command whose time is printed, once
    [ -e "$out/$1.done" ] && return
    local start=$SECONDS
    "${@:2}"
    echo "stage $1: $(((SECONDS - start) / 60)) min $(((SECONDS - start) % 60)) s" | tee "$out/$1.done"
}

train() { # OUT SETTING...
    espalike train experiment=release "out=$out/$1" resume=auto "${@:2}"
}

mkdir -p "$out"
settings=()
if [ "$data" = own ]; then
    # the molecules' list needs DATA: the groups, collections and fragments of installed packages alone
    stage list env bash -c 'espalike molecules "input=[groups,minidrugbank,freesolv,rdkit]" exclude=sample \
        "exclude_split=[val,test]" most=5000 limit=5000 recombine=20000 workers=2 out=runs/own/cover.smi || [ $? -eq 1 ]'
    stage labels bash scripts/label_teacher.sh none runs/own workers=2
    settings=('data.stores=[runs/own/shapes,runs/own/scans,runs/own/thermal,sample]' '~objective.sources.torsiondrives')
else
    bash scripts/outside_data.sh "$data" openff_torsiondrives_forces.h5 openff_opt_geometries.h5 nci_atlas_dimers.h5 \
        hutchison_conformers.h5 pepconf.h5
    stage torsiondrives espalike ingest "reader.path=$data/openff_torsiondrives_forces.h5" \
        reader.source=torsiondrives out=runs/td reference=openff
    stage minima espalike ingest "reader.path=$data/openff_opt_geometries.h5" reader.source=minima \
        reader.zero_forces=true out=runs/opt reference=openff
    stage complexes espalike ingest reader=complexes "reader.path=$data/nci_atlas_dimers.h5" reference=openff \
        out=runs/complexes
    stage hutchison espalike ingest reader=hutchison "reader.path=$data/hutchison_conformers.h5" out=runs/hutchison
    stage pepconf espalike ingest "reader.path=$data/pepconf.h5" reader.source=pepconf out=runs/pepconf
    stage labels bash scripts/label_teacher.sh "$data" runs/teacher workers=2
    # the list leaves out what these two sets have; of their training molecules the teacher labels other conformers
    stage conformers espalike label calculator=aimnet2 calculator@sampler.calculator=espalike \
        sampler.calculator.model=espalike-small \
        'input=[runs/hutchison,runs/pepconf]' 'split=[train]' out=runs/teacher/conformers disagreement=10 reference=openff \
        source=aimnet2-conformers licence=CC0-1.0 chunk=64 sampler=shapes sampler.frames=12 sampler.pool=16 \
        sampler.minimise=80 workers=2
fi

# First one long training, then four short ones from its end, each with other batches and the conformers beside them:
# their mean is better than each, and their spread says where parameters are uncertain (G. Huang et al., ICLR 2017). Then
# each goes on for a few epochs at a lower rate.
first=("${settings[@]}" forcefield.term.periodic_proper.smallest=0.05 objective.sparse=0.02)
[ "$data" = own ] || first+=(
    'data.stores=[runs/td,runs/opt,runs/complexes,runs/teacher/shapes,runs/teacher/scans,runs/teacher/thermal,sample]')
members=(ensemble=4 trainer.max_epochs=10 trainer.check_val_every_n_epoch=5)
last=(optimizer.lr=1e-3 trainer.max_epochs=4)
stage base-1 train base-1 "${first[@]}"
stage members-1 train members-1 "start=$out/base-1/model.espalike" "${members[@]}" "${settings[@]}"
stage espalike-1 train espalike-1 "start=$out/members-1/model.espalike" "${last[@]}" "${settings[@]}"
stage base-2 train base-2 start=espalike-class2 forcefield=class2 trainer.max_epochs=36 "${first[@]}"
stage members-2 train members-2 "start=$out/base-2/model.espalike" forcefield=class2 "${members[@]}" "${settings[@]}"
stage espalike-2 train espalike-2 "start=$out/members-2/model.espalike" forcefield=class2 "${last[@]}" "${settings[@]}"
[ "$data" = own ] && exit

models="model=[$out/espalike-1/model.espalike,$out/espalike-2/model.espalike]"
baselines='baselines=[openff-2.2.1,openff-2.3.0,mmff94,gfn2-xtb,aimnet2]'
for set in runs/td runs/hutchison runs/pepconf sample; do
    stage "test-${set##*/}" espalike evaluate "$models" "$baselines" "data.path=$set" data.split=test \
        "out=$out/test/${set##*/}"
done
stage test-complexes espalike evaluate "$models" 'baselines=[openff-2.2.1,openff-2.3.0,aimnet2]' \
    data.path=runs/complexes data.split=test "out=$out/test/complexes"
for model in espalike-1 espalike-2; do
    python scripts/ship_model.py "$out/$model/model.espalike" "$model" \
        "$out"/test/{td,hutchison,pepconf,sample,complexes}
done
