#!/usr/bin/env bash
# The list of molecules to label with a neural potential: bash scripts/cover_molecules.sh DATA [OUT [SETTING...]],
# where DATA holds HDF5 files with splits, openff_torsiondrives_forces.h5 and those below. The molecules come from their
# train splits and from collections in installed packages; none has the connectivity key of a val or test molecule.
# Writes OUT (runs/cover.smi) and its tables.
set -euo pipefail
cd "$(dirname "$0")/.."
data=${1:?usage: bash scripts/cover_molecules.sh DATA [OUT [SETTING...]]}
out=${2:-runs/cover.smi}
bash scripts/outside_data.sh "$data" openff_torsiondrives_forces.h5 openff_opt_geometries.h5 hutchison_conformers.h5 \
    pepconf.h5 rmd17_2k.h5

sets=$(for set in openff_torsiondrives_forces openff_opt_geometries hutchison_conformers pepconf rmd17_2k; do
    printf '%s,' "$data/$set.h5"
done)
sets=${sets%,}
# status 1: some molecules of the collections have impossible valences; they are counted
espalike molecules "input=[groups,minidrugbank,freesolv,$sets,rdkit]" 'split=[train]' \
    "exclude=[$sets,sample]" 'exclude_split=[val,test]' "before=[$sets]" \
    most=5000 limit=5000 recombine=20000 workers=2 "out=$out" "${@:3}" || [ $? -eq 1 ]
