#!/usr/bin/env bash
# Trains and scores `espalike-small` from scratch: bash scripts/train_small.sh DATA, where DATA holds
# openff_torsiondrives_forces.h5 and openff_opt_geometries.h5. Finished steps are kept if the script runs again.
set -euo pipefail
cd "$(dirname "$0")/.."
data=${1:?usage: bash scripts/train_small.sh DATA}
bash scripts/outside_data.sh "$data" openff_torsiondrives_forces.h5 openff_opt_geometries.h5

espalike ingest reader=hdf5 reader.path="$data/openff_torsiondrives_forces.h5" reader.source=torsiondrives \
    out=runs/td reference=openff
espalike ingest reader=hdf5 reader.path="$data/openff_opt_geometries.h5" reader.source=minima reader.zero_forces=true \
    out=runs/opt reference=openff
for set in td:torsiondrives_forces opt:opt_geometries; do
    espalike label calculator=gfn2-xtb calculator@sampler.calculator=mmff94 input="$data/openff_${set#*:}.h5" \
        split='[train,val]' out="runs/xtb_${set%%:*}" source="xtb-${set%%:*}" reference=openff licence=MIT \
        sampler.frames=10 sampler.minimise=0 chunk=10
done
espalike train experiment=small
espalike evaluate model=runs/small/model.espalike data.path=runs/td data.split=test \
    'baselines=[openff-2.2.1,mmff94,gfn2-xtb]' out=runs/small/torsiondrives
espalike evaluate model=runs/small/model.espalike data.path=sample data.split=test \
    'baselines=[openff-2.2.1,mmff94,gfn2-xtb]' out=runs/small/thermal
python scripts/ship_model.py runs/small/model.espalike espalike-small runs/small/torsiondrives runs/small/thermal
