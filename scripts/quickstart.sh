#!/usr/bin/env bash
# Trains a force field and runs it in OpenMM: makes the environment, installs, trains on the embedded QM data, scores held-out
# molecules beside another force field, writes the XML of a ligand and runs it.
#   --minimal  install no extras: 1.8 GB instead of 2.8 (torch without libraries for GPUs); the other force field is then MMFF94, not OpenFF 2.2.1
# The variable OUT chooses the folder (runs/quickstart).
baseline=openff-2.2.1
case ${1-} in
  '') ;;
  --minimal) export ESPALIKE_EXTRAS='' && baseline=mmff94 ;;
  *) echo "usage: bash scripts/quickstart.sh [--minimal]" >&2 && exit 2 ;;
esac

echo "== 1 of 5: the environment"
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
out=${OUT:-runs/quickstart}

echo "== 2 of 5: train a graph network on the embedded B3LYP-D3BJ/DZVP energies and forces"
espalike train experiment=quickstart out="$out" overwrite=true

echo "== 3 of 5: score it on molecules held out from training, beside $baseline"
espalike evaluate model="$out/model.espalike" data.path=sample data.split=test \
  "baselines=[$baseline]" out="$out/scores"

echo "== 4 of 5: parametrize phenol with this model, and paracetamol, which 100 small molecules do not cover, with the shipped one"
echo 'Oc1ccccc1 phenol' >"$out/phenol.smi"
espalike parametrize "$out/phenol.smi" --model "$out/model.espalike" --format ffxml,system \
  --out "$out/phenol" --report "$out/phenol/report.json"
espalike parametrize data/paracetamol.sdf --format ffxml,system \
  --out "$out/paracetamol" --report "$out/paracetamol/report.json"

echo "== 5 of 5: run both: 20 ps of Langevin dynamics in OpenMM, from the XML alone"
python scripts/dynamics.py "$out/phenol/phenol.xml" "$out/phenol/phenol.sdf" --trajectory "$out/phenol/dynamics.pdb"
python scripts/dynamics.py "$out/paracetamol/paracetamol.xml" data/paracetamol.sdf \
  --trajectory "$out/paracetamol/dynamics.pdb"

echo "== results in $out:"
printf '  %s\n' "$out"/model.espalike "$out"/metrics.csv "$out"/scores/{table.csv,parity.png} \
  "$out"/{phenol,paracetamol}/*
