"""The fixed part of `<Script>` in exported files: adds forces for which OpenMM's force-field files have no tag.

OpenMM runs the text at the end of `ForceField.createSystem`, where `sys` is the system made so far, `data` knows its
atoms, their types and bonds, and `self` is the ForceField. Below it stands a table of one molecule's parameters, in
OpenMM's units, and the call `espalike_apply(sys, data, self, espalike_table)`. It needs only OpenMM. `to_openmm` uses
the same functions.
"""

import openmm

ESPALIKE_NO_WELL = 1e-20
"""Epsilon [kJ/mol] without effect. It is not zero, since `Modeller.addSolvent` puts water into atoms without a well."""


def espalike_apply(sys, data, field, table):
    """Add one molecule's forces to every copy of it in the system. Types of its atoms belong to no other molecule."""
    done = data.__dict__.setdefault("espalike_done", set())  # a molecule may be in several files
    copies = espalike_copies(data, table)
    if not copies or frozenset(table["types"]) in done:
        return
    done.add(frozenset(table["types"]))
    for recipe in table["forces"]:
        espalike_extend(sys, recipe, copies)
    if table["exceptions"]:
        espalike_exceptions(sys, table["exceptions"], copies)
    if table["border"]:
        espalike_border(sys, data, table, copies)
    if table["vdw"]:
        espalike_vdw(sys, data, field, table, copies)


def espalike_copies(data, table):
    """Atom indices of each copy of the molecule, in the order of the table's atoms."""
    position = {kind: number for number, kind in enumerate(table["types"])}
    by_residue: dict = {}
    for atom in data.atoms:
        if data.atomType[atom] in position:
            by_residue.setdefault(atom.residue, {})[position[data.atomType[atom]]] = atom.index
    for bond in data.bonds:  # a molecule may lie in several residues
        first, second = (by_residue.get(data.atoms[a].residue) for a in (bond.atom1, bond.atom2))
        if first is not None and second is not None and first is not second:
            first.update(second)
            for residue in [r for r, atoms in by_residue.items() if atoms is second]:
                by_residue[residue] = first
    copies = {id(atoms): atoms for atoms in by_residue.values()}
    for atoms in copies.values():
        if len(atoms) != len(position):
            present = sorted(atoms.values())
            raise ValueError(f"{table['molecule']}: expected {len(position)} atoms, found {len(atoms)}: {present}")
    return [[atoms[n] for n in range(len(position))] for atoms in copies.values()]


def espalike_border(sys, data, table, copies):
    """Bonds, angles and torsions between a residue and its neighbours, in place of those that other files gave them."""
    near: dict = {}
    for bond in data.bonds:
        near.setdefault(bond.atom1, set()).add(bond.atom2)
        near.setdefault(bond.atom2, set()).add(bond.atom1)
    wider = []
    for copy in copies:
        found = espalike_neighbours(data, near, table["border"]["outside"], copy)
        if found is None:
            raise ValueError(f"{table['molecule']}: the neighbours of atoms {sorted(copy)} are not those of its caps")
        espalike_clear(sys, set(copy))
        wider.append(found)
    for recipe in table["border"]["forces"]:
        espalike_extend(sys, recipe, wider)


def espalike_neighbours(data, near, outside, found):
    """The atoms of a residue with those outside that have the right elements, bonds and numbers of neighbours."""
    if not outside:
        return found
    number, bonded, count = outside[0]
    for atom in sorted(near[found[bonded[0]]]):
        element = data.atoms[atom].element
        fits = atom not in found and element is not None and element.atomic_number == number
        if fits and all(found[b] in near[atom] for b in bonded) and count == len(near[atom]):
            result = espalike_neighbours(data, near, outside[1:], [*found, atom])
            if result is not None:
                return result
    return None


def espalike_clear(sys, inside):
    """Rows between the atoms of a residue and others, which wildcards of other files may have given, have no effect."""
    zero = {
        openmm.HarmonicBondForce: ("Bond", 2),
        openmm.HarmonicAngleForce: ("Angle", 3),
        openmm.PeriodicTorsionForce: ("Torsion", 4),
    }
    for force in sys.getForces():
        if type(force) in zero:
            word, size = zero[type(force)]
            for n in range(getattr(force, f"getNum{word}s")()):
                row = getattr(force, f"get{word}Parameters")(n)
                if 0 < sum(atom in inside for atom in row[:size]) < size:
                    getattr(force, f"set{word}Parameters")(n, *row[:-1], 0.0)


def espalike_extend(sys, recipe, copies):
    """Add rows to the force of that class, name and energy, made if the system has none; returns the force."""
    kind = getattr(openmm, recipe["force"])
    custom = recipe["energy"] != ""
    add = {"Bond": "addBond", "Angle": "addAngle", "Torsion": "addTorsion"}[
        next(word for word in ("Bond", "Angle", "Torsion") if word in recipe["force"])
    ]
    for force in sys.getForces():
        if (
            type(force) is kind
            and force.getName() == recipe["name"]
            and (not custom or force.getEnergyFunction() == recipe["energy"])
        ):
            break
    else:
        many = recipe["force"] == "CustomCompoundBondForce"
        force = kind(*([recipe["size"]] if many else []), *([recipe["energy"]] if custom else []))
        for name in recipe["parameters"]:
            getattr(force, add.replace("add", "addPer") + "Parameter")(name)
        force.setName(recipe["name"])
        sys.addForce(force)
    for copy in copies:
        for row, values in recipe["rows"]:
            atoms = [copy[a] for a in row]
            if recipe["force"] == "CustomCompoundBondForce":
                force.addBond(atoms, values)
            elif custom:
                getattr(force, add)(*atoms, values)
            else:
                getattr(force, add)(*atoms, *values)
    return force


def espalike_exceptions(sys, rows, copies):
    """Give pairs of a molecule their charge product, sigma and epsilon; the tag has one scale for all molecules."""
    nonbonded = espalike_nonbonded(sys)
    index = {}
    for number in range(nonbonded.getNumExceptions()):
        i, j = nonbonded.getExceptionParameters(number)[:2]
        index[min(i, j), max(i, j)] = number
    for copy in copies:
        for row, values in rows:
            i, j = sorted(copy[a] for a in row)
            if (i, j) in index:
                nonbonded.setExceptionParameters(index[i, j], i, j, *values)
            else:
                nonbonded.addException(i, j, *values)


def espalike_nonbonded(sys):
    """The system's NonbondedForce."""
    return next(force for force in sys.getForces() if isinstance(force, openmm.NonbondedForce))


def espalike_vdw(sys, data, field, table, copies):
    """The van der Waals form, a CustomNonbondedForce between atoms that have it.

    Atoms that have it share an atom class. For systems with Lennard-Jones atoms of other force fields, the file must
    say how the two interact: `lj` leaves Lennard-Jones 12-6 to the NonbondedForce and subtracts it between atoms that
    have the form.
    """
    vdw, nonbonded = table["vdw"], espalike_nonbonded(sys)
    inside, foreign = espalike_sides(data, field, nonbonded, vdw)
    if foreign and vdw["mixed"] != "lj":
        atom = foreign[0]
        raise ValueError(
            f"{table['molecule']}: its van der Waals form {vdw['name']} has no rule for pairs with atoms of another "
            f"force field, and {len(foreign)} are in this system; the first is atom {atom.name} of residue "
            f"{atom.residue.name} {atom.residue.id}, type {data.atomType[atom]}. Write the file anew with mixed='lj' "
            "to treat those pairs by Lennard-Jones 12-6 with its sigma and epsilon (Lorentz-Berthelot), or give all "
            "molecules parameters of one espalike model"
        )
    if nonbonded.getNonbondedMethod() == openmm.NonbondedForce.LJPME:
        raise ValueError(f"{table['molecule']}: LJPME is for Lennard-Jones; {vdw['name']} needs PME or a cutoff")
    energy = vdw["beside_lj"] if foreign else vdw["energy"]
    force = espalike_find_pair_force(sys, vdw, energy)
    if force is None:
        excluded = [nonbonded.getExceptionParameters(n)[:2] for n in range(nonbonded.getNumExceptions())]
        force = espalike_pair_force(vdw, energy, sys.getNumParticles(), excluded)
        if len(inside) < sys.getNumParticles():
            force.addInteractionGroup(inside, inside)
        espalike_cutoff(force, nonbonded)
        sys.addForce(force)
    for copy in copies:
        for atom, values in zip(copy, vdw["values"], strict=True):
            force.setParticleParameters(atom, values)
            if not foreign:
                charge, sigma, _ = nonbonded.getParticleParameters(atom)
                nonbonded.setParticleParameters(atom, charge, sigma, ESPALIKE_NO_WELL)


def espalike_sides(data, field, nonbonded, vdw):
    """Indices of the atoms that have the form, and the atoms that do not and have a van der Waals interaction."""
    inside, foreign = [], []
    for atom in data.atoms:
        group = field._atomTypes[data.atomType[atom]].atomClass
        if group == vdw["class"]:
            inside.append(atom.index)
        elif group.startswith("espalike-") or nonbonded.getParticleParameters(atom.index)[2]._value != 0.0:
            foreign.append(atom)
    return inside, foreign


def espalike_find_pair_force(sys, vdw, energy):
    """The force that an earlier script made for the same form, or None."""
    for force in sys.getForces():
        same = isinstance(force, openmm.CustomNonbondedForce) and force.getName() == vdw["name"]
        if same and force.getEnergyFunction() == energy:
            return force
    return None


def espalike_pair_force(vdw, energy, n_particles, excluded):
    """A pair force whose particles all have the parameters of the molecule's first atom."""
    force = openmm.CustomNonbondedForce(energy)
    force.setName(vdw["name"])
    for name in vdw["parameters"]:
        force.addPerParticleParameter(name)
    for _ in range(n_particles):
        force.addParticle(vdw["values"][0])
    for i, j in excluded:
        force.addExclusion(i, j)
    return force


def espalike_cutoff(force, nonbonded):
    """Copy cutoff, switch and long-range correction from the NonbondedForce."""
    method = nonbonded.getNonbondedMethod()
    if method not in (nonbonded.NoCutoff, nonbonded.CutoffNonPeriodic):
        method = nonbonded.CutoffPeriodic
    force.setNonbondedMethod(method)  # the two classes number these three methods alike
    force.setCutoffDistance(nonbonded.getCutoffDistance())
    force.setUseSwitchingFunction(nonbonded.getUseSwitchingFunction())
    force.setSwitchingDistance(nonbonded.getSwitchingDistance())
    force.setUseLongRangeCorrection(nonbonded.getUseDispersionCorrection() and method == nonbonded.CutoffPeriodic)
