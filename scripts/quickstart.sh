#!/usr/bin/env bash
# Trains a force field and runs it in OpenMM: makes the environment, installs, trains on the embedded QM data, scores held-out
# molecules beside OpenFF 2.2.1, writes the XML of a ligand and runs it. OUT chooses the folder (runs/quickstart).
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

out=${OUT:-runs/quickstart}

echo "== train a graph network on the embedded B3LYP-D3BJ/DZVP energies and forces"
espalike train experiment=quickstart out="$out" overwrite=true

echo "== score it on molecules held out from training"
espalike evaluate model="$out/model.espalike" data.path=sample data.split=test \
  'baselines=[openff-2.2.1]' out="$out/scores"

echo "== parametrize a ligand"
espalike parametrize data/paracetamol.sdf --model "$out/model.espalike" --format ffxml,system \
  --out "$out/ligand" --report "$out/ligand/report.json"

echo "== run it: 20 ps of Langevin dynamics in OpenMM, from the XML alone"
python scripts/dynamics.py "$out/ligand/paracetamol.xml" data/paracetamol.sdf --trajectory "$out/ligand/dynamics.pdb"

echo "== results in $out:"
printf '  %s\n' "$out"/model.espalike "$out"/metrics.csv "$out"/scores/{table.csv,parity.png} "$out"/ligand/*
