#!/usr/bin/env bash
# Makes the released models, `espalike-1` (class I) and `espalike-2` (class II): bash scripts/train_release.sh DATA, where
# DATA holds openff_torsiondrives_forces.h5, openff_opt_geometries.h5, nci_atlas_dimers.h5, hutchison_conformers.h5 and
# pepconf.h5 (of these two the training molecules are taken, never the energies). Each stage prints its time. A stage that has finished is not repeated, and one
# that was stopped goes on: run the same command again.
#
# Without DATA, bash scripts/train_release.sh own [MOLECULES] trains from nothing on own labels alone: the teacher's, of 5,000
# molecules or as many as are given, and the embedded set.
set -euo pipefail
cd "$(dirname "$0")/.."
data=${1:?usage: bash scripts/train_release.sh DATA, or own}
out=runs/release
[ "$data" != own ] || out=runs/own/release
number=${2:-5000}

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
begin=(start=espalike-small)
begin2=(start=espalike-class2)
if [ "$data" = own ]; then
    # the molecules' list needs DATA: the groups, collections and fragments of installed packages alone
    stage list env bash -c 'espalike molecules "input=[groups,minidrugbank,freesolv,rdkit]" exclude=sample \
        "exclude_split=[val,test]" "most=$1" "limit=$1" recombine=20000 workers=2 out=runs/own/cover.smi || [ $? -eq 1 ]' \
        list "$number"
    stage labels bash scripts/label_teacher.sh none runs/own workers=2
    settings=('data.stores=[runs/own/shapes,runs/own/scans,runs/own/thermal,sample]' '~objective.sources.torsiondrives')
    begin=(start=null convert=false optimizer.lr=2e-3)
    begin2=("${begin[@]}")
else
    bash scripts/outside_data.sh "$data" openff_torsiondrives_forces.h5 openff_opt_geometries.h5 nci_atlas_dimers.h5 \
        hutchison_conformers.h5 pepconf.h5
    # without iodine, for which these two sets have a wrong fitting basis (docs/models.md)
    known='filters.elements=[H,B,C,N,O,F,Si,P,S,Cl,Br]'
    stage torsiondrives espalike ingest "reader.path=$data/openff_torsiondrives_forces.h5" \
        reader.source=torsiondrives out=runs/td reference=openff "$known"
    stage minima espalike ingest "reader.path=$data/openff_opt_geometries.h5" reader.source=minima \
        reader.zero_forces=true out=runs/opt reference=openff "$known"
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
# their mean is better than each, and their spread says where parameters are uncertain (G. Huang et al., ICLR 2017). Each
# goes on for a few epochs at a lower rate, and at last with other molecules.
first=("${settings[@]}" forcefield.term.periodic_proper.smallest=0.05 objective.sparse=0.02)
[ "$data" = own ] || first+=(
    'data.stores=[runs/td,runs/opt,runs/complexes,runs/teacher/shapes,runs/teacher/scans,runs/teacher/thermal,sample]')
members=(ensemble=4 trainer.max_epochs=10 trainer.check_val_every_n_epoch=5)
last=(optimizer.lr=1e-3 trainer.max_epochs=4)
stage base-1 train base-1 "${begin[@]}" "${first[@]}"
stage members-1 train members-1 "start=$out/base-1/model.espalike" "${members[@]}" "${settings[@]}"
stage polish-1 train polish-1 "start=$out/members-1/model.espalike" "${last[@]}" "${settings[@]}"
stage base-2 train base-2 "${begin2[@]}" forcefield=class2 trainer.max_epochs=36 "${first[@]}"
stage members-2 train members-2 "start=$out/base-2/model.espalike" forcefield=class2 "${members[@]}" "${settings[@]}"
stage polish-2 train polish-2 "start=$out/members-2/model.espalike" forcefield=class2 "${last[@]}" "${settings[@]}"
if [ "$data" = own ]; then
    stage test espalike evaluate "model=[$out/polish-1/model.espalike,$out/polish-2/model.espalike]" \
        'baselines=[openff-2.2.1,openff-2.3.0,mmff94,gfn2-xtb,aimnet2]' data.path=sample data.split=test "out=$out/test"
    exit
fi

# What the networks lack then is chemistry: more molecules, with few geometries of each, and other conformers of the
# molecules of all data. The list is in random order, since its first molecules have the commonest environments.
more() { # NAME SETTING...
    espalike label calculator=aimnet2 calculator@sampler.calculator=espalike sampler.calculator.model=espalike-small \
        "out=runs/teacher2/$1" disagreement=10 reference=openff "source=aimnet2-$1" licence=CC0-1.0 chunk=64 \
        'fractions={train:0.92,val:0.04,test:0.04}' workers=2 "${@:2}" || [ $? -eq 1 ]
}
listed=input=runs/teacher2/shuffled.smi
stage list-2 bash scripts/cover_molecules.sh "$data" runs/teacher2/cover.smi most=8000 limit=6000
stage shuffle bash -c 'shuf --random-source=<(yes 7) runs/teacher2/cover.smi >runs/teacher2/shuffled.smi'
stage conformers-2 more conformers 'input=[runs/hutchison,runs/pepconf,runs/td,runs/opt]' 'split=[train]' sampler=shapes \
    sampler.frames=7 sampler.pool=12 sampler.minimise=80
stage shapes-2 more shapes $listed limit=5350 sampler=shapes sampler.frames=5 sampler.pool=8 sampler.minimise=40
stage scans-2 more scans $listed limit=870 sampler=scan sampler.spacing=30 sampler.steps=50 sampler.most=1 sampler.rounds=1
stage thermal-2 more thermal $listed limit=980 sampler=thermal sampler.temperature=300 sampler.highest=700 \
    sampler.starts=3 sampler.frames=3 sampler.interval=36 sampler.equilibration=60 sampler.minimise=40

# Then the same with a stronger pull to OpenFF's van der Waals parameters: interaction energies of pairs alone make liquids
# too dense (acetone and benzene by 15 to 19 % before this stage).
second=(objective.interaction=2 +objective.sources.torsiondrives.forces=3 '+objective.sources.minima={forces:3}'
    'data.stores=[runs/td,runs/opt,runs/complexes,runs/teacher2/shapes,runs/teacher2/conformers,runs/teacher2/scans,runs/teacher2/thermal,sample]')
more=(optimizer.lr=1e-3 trainer.max_epochs=14 "${second[@]}")
pulled=(optimizer.lr=7e-4 trainer.max_epochs=5 objective.lj=1 "${second[@]}")
stage more-1 train more-1 "start=$out/polish-1/model.espalike" "${more[@]}"
stage pulled-1 train pulled-1 "start=$out/more-1/model.espalike" "${pulled[@]}"
stage more-2 train more-2 "start=$out/polish-2/model.espalike" forcefield=class2 "${more[@]}"
stage pulled-2 train pulled-2 "start=$out/more-2/model.espalike" forcefield=class2 "${pulled[@]}"

# At last, still more molecules: the rest of the second list, and those that both lists lack.
sets=$(for set in openff_torsiondrives_forces openff_opt_geometries hutchison_conformers pepconf rmd17_2k; do
    printf '%s,' "$data/$set.h5"
done)
stage list-3 bash -c 'espalike molecules "input=[groups,minidrugbank,freesolv,rdkit]" "split=[train]" "exclude=[$1sample]" \
    "exclude_split=[val,test]" extend=true most=3500 limit=6000 cost=molecules recombine=20000 seed=5 out=runs/teacher3/cover.smi \
    "before=[runs/td,runs/opt,runs/teacher2/shapes,runs/teacher2/conformers,runs/teacher2/shuffled.smi]" || [ $? -eq 1 ]' \
    list "$sets"
stage rest bash -c 'tail -n +5351 runs/teacher2/shuffled.smi >runs/teacher3/rest.smi'
last() { # NAME LIST FRAMES
    espalike label calculator=aimnet2 calculator@sampler.calculator=espalike sampler.calculator.model=espalike-small \
        "input=runs/teacher3/$2.smi" "out=runs/teacher3/$1" disagreement=10 reference=openff source=aimnet2-shapes \
        licence=CC0-1.0 chunk=64 'fractions={train:0.96,val:0.02,test:0.02}' workers=2 sampler=shapes "sampler.frames=$3" \
        sampler.pool=8 sampler.minimise=40 || [ $? -eq 1 ]
}
stage shapes-rest last shapes rest 5
stage shapes-3 last shapes2 cover 4
wide=(optimizer.lr=1e-3 trainer.max_epochs=7 objective.lj=1 "${second[@]/,sample]/,runs/teacher3/shapes,runs/teacher3/shapes2,sample]}")
settled=("${wide[@]}" optimizer.lr=6e-4 trainer.max_epochs=5)
for model in 1 2; do
    form=$([ $model = 1 ] || echo forcefield=class2)
    stage wide-$model train wide-$model "start=$out/pulled-$model/model.espalike" $form "${wide[@]}"
    stage settled-$model train settled-$model "start=$out/wide-$model/model.espalike" $form "${settled[@]}"
    # the last two are better on rare chemistry, the first on peptides; the mean of the weights lies between them
    stage mean-$model python scripts/mean_weights.py "$out/mean-$model" "$out"/{pulled,wide,settled}-$model/model.espalike
done

# Class II gets van der Waals parameters of its own for pairs of one molecule: those of liquids cost conformers a fifth of
# their accuracy. Then both go on for a few epochs with a moving average of the weights.
own=(forcefield=class2 forcefield.term.lennard_jones.within=learned)
averaged=("${wide[@]}" trainer.max_epochs=5 ema=0.997)
stage within-2 train within-2 "start=$out/mean-2/model.espalike" "${own[@]}" "${wide[@]}" trainer.max_epochs=10
stage last-1 train last-1 "start=$out/mean-1/model.espalike" "${averaged[@]}"
stage last-2 train last-2 "start=$out/within-2/model.espalike" "${own[@]}" "${averaged[@]}"
stage ended-2 python scripts/mean_weights.py "$out/ended-2" "$out"/{within,last}-2/model.espalike

# Then thermal frames of iodides, whose bonds are too soft without; angles of 180° at linear centres; and a pull twice as
# strong for the molecules of complexes, since pairs alone make liquids too dense.
stage iodides python scripts/with_element.py I runs/teacher3/iodides.smi runs/teacher2/{shapes,conformers,scans,thermal} \
    runs/teacher3/{shapes,shapes2}
hot() {
    espalike label calculator=aimnet2 calculator@sampler.calculator=espalike \
    sampler.calculator.model=espalike-class2 input=runs/teacher3/iodides.smi out=runs/teacher3/iodides disagreement=10 \
    reference=openff source=aimnet2-thermal licence=CC0-1.0 chunk=64 'fractions={train:1,val:0,test:0}' workers=2 \
    sampler=thermal sampler.temperature=300 sampler.highest=700 sampler.starts=3 sampler.frames=4 sampler.interval=36 \
    sampler.equilibration=60 sampler.minimise=40 || [ $? -eq 1 ]
}
stage thermal-iodides hot
liquid=("${averaged[@]/,sample]/,runs/teacher3/iodides,sample]}")
for set in D1200 D442x10 HB300SPXx10 HB375x10 IHB100x10 R739x5 SH250x10; do
    liquid+=("+objective.sources.NCIA_$set={charge:2,lj:2}")
done
stage liquid-1 train liquid-1 "start=$out/last-1/model.espalike" "${liquid[@]}" \
    forcefield.term.harmonic_angle.straight=true
stage liquid-2 train liquid-2 "start=$out/ended-2/model.espalike" "${own[@]}" "${liquid[@]}" \
    forcefield.term.{quartic_angle,bond_angle}.straight=true

# Class I gains from a pull to OpenFF's van der Waals parameters that is five times weaker for molecules that are in no
# complex, and stronger for those that are, since liquids get too dense without. Class II gains nothing from that, but
# from some epochs without relaxed conformers of the teacher; the mean of the weights keeps peptides and complexes.
stage espalike-1 train espalike-1 "start=$out/liquid-1/model.espalike" "${liquid[@]//,lj:2/,lj:12}" objective.lj=0.2 \
    forcefield.term.harmonic_angle.straight=true optimizer.lr=1.5e-3 trainer.max_epochs=6 trainer.check_val_every_n_epoch=6
stage tuned-2 train tuned-2 "start=$out/liquid-2/model.espalike" "${own[@]}" "${liquid[@]}" objective.interaction=4 \
    'data.stores=[runs/td,runs/opt,runs/complexes,runs/teacher2/scans,runs/teacher2/thermal,runs/teacher3/iodides,sample]' \
    trainer.max_epochs=8 trainer.check_val_every_n_epoch=8 forcefield.term.{quartic_angle,bond_angle}.straight=true
stage espalike-2 python scripts/mean_weights.py "$out/espalike-2" "$out"/{liquid,tuned}-2/model.espalike

# For comparison, the same without any interaction of 1-4 pairs.
no14=(forcefield=class2_no14 forcefield.term.lennard_jones.within=learned forcefield.term.lennard_jones.scale14=0.0
    forcefield.term.coulomb.scale14=0.0)
stage no14-within train no14-within "start=$out/mean-2/model.espalike" "${no14[@]}" "${wide[@]}" trainer.max_epochs=10
stage no14-last train no14-last "start=$out/no14-within/model.espalike" "${no14[@]}" "${averaged[@]}"
stage no14 python scripts/mean_weights.py "$out/class2_no14" "$out"/no14-{within,last}/model.espalike

models="model=[$out/espalike-1/model.espalike,$out/espalike-2/model.espalike]"
baselines='baselines=[openff-2.2.1,openff-2.3.0,garnet,mmff94,gfn2-xtb,aimnet2]'
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
