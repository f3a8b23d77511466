"""Quantum-chemistry data, from an outside file to the loss of a training step.

The life of a record:

1. A **reader** (`readers/`, one per layout; `readers/base.py` is the contract) turns a file into `Record`s: one
   molecule, one source, one level of theory, its conformers with energies, forces and other labels, in Å, kcal/mol
   and e. Units are converted here and nowhere else. What it cannot read becomes a `RecordError` with a reason, which is
   counted and listed; the other records go on.
2. **Checks** (`schema.check`): shapes agree, numbers are finite, source and level are given.
3. **Filters** (`filters.py`): elements, charge, broken bonds (`espalike.chem.bonds`), large forces, high energies,
   repeated geometries (`similar.py`). A filter drops single geometries, or the whole record; both are counted.
4. The **audit** (`audit.py`) sums, while records pass, how well forces fit energies and energies their atoms. At the
   end it finds wrong units and signs.
5. **Split** (`split.py`): train, val or test by connectivity key, so that stereoisomers and protonation states of one
   molecule are on one side.
6. **Ingest** (`ingest.py`) runs steps 1 to 5, adds reference charges and Lennard-Jones parameters where they are asked
   for, and hands records to the writer of **shards** (`shards.py`). `work.py` holds what is finished, so that a killed
   ingest can continue.
7. The **store** (`store.py`): a folder of Arrow files (`schema.py` has the columns and units) and `manifest.json` with
   origin, licence, counts, rejections and the hash of the content. `describe.py` computes what `espalike info` shows.
   Files are mapped, not read; `columns.py` gathers values of many entries from the maps.
8. A **data set** (`dataset.py`) is the sequence of entries of several stores in one split.
9. A **sampler** (`sampler.py`) plans the batches of an epoch: which conformers of which entries, in which process.
10. **Batches** (`batches.py`) makes a `LabelledBatch` of each plan: graphs from `table.py`, labels from the maps;
    energies become relative to their mean in float64, then everything is cast.
11. In **training** (`espalike.training`) the model turns the batch into parameters, these into energies and forces, and
    `training.objective` compares them with the labels: the loss.
"""
