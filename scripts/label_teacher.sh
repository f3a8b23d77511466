#!/usr/bin/env bash
# More than 200,000 geometries labelled by AIMNet2: bash scripts/label_teacher.sh DATA [OUT [SETTING...]]
# Takes the molecules of scripts/cover_molecules.sh and makes three stores in OUT (runs/teacher): shapes, scans and thermal.
# About three hours of one core; SETTING workers=2 uses two. Stopped at any point, the same command goes on.
set -euo pipefail
cd "$(dirname "$0")/.."
data=${1:?usage: bash scripts/label_teacher.sh DATA [OUT [SETTING...]]}
out=${2:-runs/teacher}
mkdir -p "$out"
[ -e "$out/cover.smi" ] || bash scripts/cover_molecules.sh "$data" "$out/cover.smi"

label() { # NAME SETTING...; status 1: some molecules failed; the store counts them
    espalike label calculator=aimnet2 calculator@sampler.calculator=espalike sampler.calculator.model=espalike-small "input=$out/cover.smi" "out=$out/$1" \
        disagreement=10 reference=openff "source=aimnet2-$1" licence=CC0-1.0 chunk=64 "${@:2}" || [ $? -eq 1 ]
    echo "$(date +%T) finished $out/$1"
}

# conformers from folded to extended
label shapes sampler=shapes sampler.frames=12 sampler.pool=16 sampler.minimise=80 "${@:3}"
# torsion scans of two bonds of each of the first molecules, which have the commonest environments
label scans sampler=scan limit=2200 sampler.spacing=30 sampler.steps=60 sampler.most=2 sampler.rounds=1 "${@:3}"
# eight trajectories at 300 to 700 K, each from another conformer
label thermal sampler=thermal sampler.temperature=300 sampler.highest=700 sampler.starts=8 sampler.frames=25 \
    sampler.interval=24 sampler.equilibration=60 sampler.minimise=60 "${@:3}"
