#!/usr/bin/env bash
# Trains every functional form with the same settings, and class II without one family of couplings at a time:
#   bash scripts/train_forms.sh [NAME...]        all, or the given names (class1, class2, class2-bond_bond, ...)
# Each run takes one core and 5 to 15 minutes; JOBS=2 runs two at a time. A stopped run is resumed, a finished run is
# skipped. The stores are those of scripts/train_small.sh. Then: python benchmarks/forms.py
set -euo pipefail
cd "$(dirname "$0")/.."

names=("$@")
if [ ${#names[@]} -eq 0 ]; then
    names=(class1 class2 class1_ub morse dexp class2-all class2-torsion_bond class2-torsion_angle class2-angle_angle
        class2-bond_angle class2-bond_bond class2_no14 class2_dexp max)
fi

bond_bond="bond_bond bond_bond_13"
bond_angle="bond_angle"
angle_angle="angle_angle"
torsion_bond="middle_bond_torsion end_bond_torsion"
torsion_angle="angle_torsion angle_angle_torsion"
all="$bond_bond $bond_angle $angle_angle $torsion_bond $torsion_angle"

train() {
    local name=$1 out=runs/forms/$1 overrides=()
    [ -e "$out/done" ] && return
    if [[ $name == class2-* ]]; then
        local family=${name#class2-}
        for term in ${!family}; do overrides+=("~forcefield.term.$term"); done
    fi
    [ -e "$out/last.ckpt" ] && overrides+=(resume=true)
    mkdir -p "$out"
    espalike train experiment=forms "forcefield=${name%%-*}" "out=$out" "${overrides[@]}" \
        trainer.enable_progress_bar=false >"$out/log" 2>&1 && touch "$out/done" && echo "$name is trained"
}
export -f train
export bond_bond bond_angle angle_angle torsion_bond torsion_angle all
printf '%s\n' "${names[@]}" | xargs -P "${JOBS:-1}" -I{} bash -c 'train {}'
