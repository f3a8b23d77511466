#!/usr/bin/env bash
# Says what a recipe needs that is not in the repository: bash scripts/outside_data.sh DATA FILE...
# Lists each file of the folder DATA with its source, licence and SHA-256, and compares the hash. Status 2 if a file is
# missing; another hash is a warning, since another packing of the same data trains nearly the same model.
set -euo pipefail
folder=${1:?usage: bash scripts/outside_data.sh DATA FILE...}
shift

# file, SHA-256, source (licence); these are HDF5 packings, `reader=hdf5` and `reader=complexes`, of what the sources publish
known() {
  cat <<'END'
openff_torsiondrives_forces.h5 6306935abca6419d256c64fe67efb362a568a81ce4de82117cd27faf67331440 https://qcarchive.molssi.org (OpenFF Gen2 torsion drives 1-6, Substituted Phenyl Set 1; MIT)
openff_opt_geometries.h5 45edab3b6557109220deac128a23281169cfdddef4c43bccaf52874d8b8f2f76 https://github.com/MobleyLab/wbointerpolation (by_molecule_fits/targets/optgeo_*; MIT)
nci_atlas_dimers.h5 fd3c4ef1176762234d59962dfb0053cb90f097c80cfce6fc53139bb40c47ed05 https://github.com/Honza-R/NCIAtlas (commit 9fa8296; no licence stated)
hutchison_conformers.h5 7cb83d750aff72a1869dabde7bbd179dfb20bfd7ec88b627d69bd4d21fd99aa6 https://github.com/ghutchis/conformer-benchmark (MIT)
pepconf.h5 06f0821c002a02c601a8af424268e879028e846eef733e2ad0f3b8c85c09d03d https://github.com/aoterodelaroza/pepconf (fork vlita/pepconf; article CC-BY 4.0)
rmd17_2k.h5 c90994188e3d34c4775cd317a63919b26f0c1b09d47e432ef5f18999cca0af7f https://doi.org/10.6084/m9.figshare.12672038 (by github.com/andersx/rmd17-npz, split 01; CC0)
END
}

missing=0
echo "outside data, in $folder:"
for file in "$@"; do
  line=$(known | grep "^$file ") || { echo "error: $file is not in the list of $0" >&2 && exit 2; }
  read -r _ hash source <<<"$line"
  if [ ! -f "$folder/$file" ]; then
    state=missing missing=1
  elif [ "$(sha256sum "$folder/$file" | cut -c1-64)" = "$hash" ]; then
    state=present
  else
    state='present, with another SHA-256'
  fi
  printf '  %s: %s\n    %s\n    SHA-256 %s\n' "$file" "$state" "$source" "$hash"
done
if [ $missing = 1 ]; then
  echo "error: put the missing files into $folder; docs/data.md says what they hold" >&2
  exit 2
fi
