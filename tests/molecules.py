"""Molecules the tests share: drug-like ones, small ones, and one molecule drawn in several resonance forms."""

DRUGLIKE: tuple[str, ...] = (
    "CC(=O)Oc1ccccc1C(=O)O",  # aspirin
    "CC(=O)Oc1ccccc1C(=O)[O-]",
    "CC(C)Cc1ccc(cc1)C(C)C(=O)[O-]",  # ibuprofen
    "CC(=O)Nc1ccc(O)cc1",  # paracetamol
    "Cn1c(=O)c2c(ncn2C)n(C)c1=O",  # caffeine
    "CN1CCC[C@H]1c1cccnc1",  # nicotine
    "C[NH+]1CCC[C@H]1c1cccnc1",
    "COc1ccc2[nH]cc(CC[NH3+])c2c1",
    "Cc1ccc(cc1)S(=O)(=O)NC(=O)NC1CCCCC1",  # sulfonylurea
    "NS(=O)(=O)c1cc2c(cc1Cl)NCNS2(=O)=O",  # hydrochlorothiazide
    "CC1(C)SC2C(NC(=O)Cc3ccccc3)C(=O)N2C1C(=O)[O-]",  # penicillin G: 4-ring
    "NC(=[NH2+])NCCCC(N)C(=O)[O-]",  # arginine, guanidinium
    "NC(=[NH2+])c1ccc(OCCCCCOc2ccc(cc2)C(N)=[NH2+])cc1",  # pentamidine
    "CN(C)C(=N)NC(=N)N",  # metformin
    "O=[N+]([O-])c1ccc(Cl)cc1",
    "Cc1ncc([N+](=O)[O-])n1CCO",  # metronidazole
    "COP(=O)([O-])OCC1OC(n2cnc3c(N)ncnc32)C(O)C1O",  # AMP ester, phosphate
    "CCOP(=S)(OCC)Oc1ccc([N+](=O)[O-])cc1",  # parathion
    "OP(=O)(O)C(Cl)P(=O)(O)[O-]",
    "CP(=O)(C)c1ccccc1",
    "CS(=O)(=O)[O-]",
    "CS(=O)c1ccccc1",  # sulfoxide
    "Cc1ccc(cc1)S(=O)(=O)[O-]",
    "OB(O)c1ccc(F)cc1",  # boronic acid
    "CC1(C)OB(c2ccncc2)OC1(C)C",
    "C[Si](C)(C)CCO",
    "CC(C)(C)[Si](C)(C)OC1CC1",
    "FC(F)(F)c1ccc(Br)cc1",
    "Ic1ccc(CN)cc1",
    "Clc1ccc2c(c1)C(c1ccccc1)=NCC(=O)N2",  # benzodiazepine
    "C1CC2(C1)CNC2",  # spiro
    "O=C1NC(=O)C2(CCCC2)N1",  # spiro hydantoin
    "C1C2CC3CC1CC(C2)(C3)N",  # amantadine: bridged
    "C1CC2CCC1N2C",
    "CN1[C@H]2CC[C@@H]1[C@H](C(=O)OC)[C@H](OC(=O)c1ccccc1)C2",  # cocaine
    "C1CC1C(=O)N",
    "C1C2CC12",  # bicyclobutane-like
    "C1CN1CCO",  # aziridine
    "CC1OC1C",  # epoxide
    "C1=CC1",
    "C12C3C4C1C5C2C3C45",  # cubane
    "O=C1CCN1",  # beta-lactam
    "C1OCC1F",
    "C#CCN(C)CC#N",
    "C#Cc1ccccc1",
    "CC#CC(=O)N",
    "N#Cc1ccc(N)cc1",
    "CC(C)N=[N+]=[N-]",  # azide
    "[N-]=[N+]=Nc1ccccc1",
    "O=C=NC1CCCCC1",  # isocyanate
    "S=C=NCc1ccccc1",  # isothiocyanate
    "C=C=CCO",  # allene
    "C=C=C=C",
    "CCOC(=O)C=[N+]=[N-]",  # diazo
    "[C-]#[N+]CC(=O)OC",  # isonitrile
    "CC(C)N=C=NC(C)C",  # carbodiimide
    "Cc1ccc(cc1)C#[N+][O-]",  # nitrile oxide
    "c1ccc2c(c1)ccc1ccccc12",
    "c1ccc2[nH]c3ccccc3c2c1",
    "O=C1c2ccccc2C(=O)c2ccccc12",
    "c1csc(n1)-c1nccs1",
    "C[n+]1ccccc1",
    "[O-][n+]1ccccc1C",  # N-oxide
    "Oc1ccccn1",
    "C[N+](C)(C)CC(=O)[O-]",  # betaine
    "C[N+](C)(C)CCO",
    "C[S+](C)CCC([NH3+])C(=O)[O-]",
    "CC(=O)C=C([O-])C",  # enolate
    "c1nnn[n-]1",  # tetrazolate
    "O=S(=O)([N-]c1ncccn1)c1ccc(N)cc1",  # sulfonamide anion
    "CC(=O)NO",
    "CSSC",
    "C/C=C/C=C/C(=O)O",
    "CN=Nc1ccccc1",
    "NC(=O)c1cn(nn1)CC1CC1",
    "O=C1CCCCCCCCCCCCN1",  # macrocycle
    "C1COCCOCCOCCOCCO1",  # crown ether
    "CC1=CC(=O)OC1",
    "CC(N)C(=O)NC(Cc1c[nH]cn1)C(=O)NCC(=O)O",  # tripeptide
    "COC(=S)N",
    "NC(=S)N",
    "OO",
    "CONC",
    "FS(F)(F)(F)(F)c1ccccc1",
)

SMALL: tuple[str, ...] = (
    "O",
    "C",
    "Cl",
    "F",
    "[H][H]",
    "[Li+]",
    "[Na+]",
    "[K+]",
    "[Mg+2]",
    "[Ca+2]",
    "[Zn+2]",
    "[F-]",
    "[Cl-]",
    "[Br-]",
    "[I-]",
    "O=C=O",
    "C#N",
    "N#N",
    "N",
    "[NH4+]",
    "[OH-]",
    "[OH3+]",
    "C#C",
    "S",
    "ClCl",
    "BrBr",
    "[C-]#[O+]",
    "[C-]#N",
    "S=C=S",
    "O=S=O",
    "[N-]=[N+]=[N-]",
    "[O-]Cl(=O)(=O)=O",
    "F[P-](F)(F)(F)(F)F",
    "F[B-](F)(F)F",
    "B",
    "[SiH4]",
    "P",
    "CO",
    "C=O",
)

RESONANCE: dict[str, tuple[str, ...]] = {
    "carboxylate": ("[CH3][C](=[O])[O-]", "[CH3][C]([O-])=[O]"),
    "nitro": (
        "[CH3][N+](=[O])[O-]",
        "[CH3][N+]([O-])=[O]",
        "[CH3][N](=[O])=[O]",
    ),
    "guanidinium": (
        "[CH3][NH][C](=[NH2+])[NH2]",
        "[CH3][NH+]=[C]([NH2])[NH2]",
        "[CH3][NH][C]([NH2])=[NH2+]",
        "[CH3][NH][C+]([NH2])[NH2]",
    ),
    "amidinium": ("[CH3][C](=[NH2+])[NH2]", "[CH3][C]([NH2])=[NH2+]"),
    "sulfonate": (
        "[CH3][S](=[O])(=[O])[O-]",
        "[CH3][S]([O-])(=[O])=[O]",
        "[CH3][S+2]([O-])([O-])[O-]",
    ),
    "phosphate": (
        "[CH3][O][P](=[O])([O-])[O-]",
        "[CH3][O][P]([O-])(=[O])[O-]",
        "[CH3][O][P+]([O-])([O-])[O-]",
    ),
    "azide": ("[CH3][N]=[N+]=[N-]", "[CH3][N-][N+]#[N]", "[CH3][N]=[N]#[N]"),
    "diazo": ("[CH3][CH]=[N+]=[N-]", "[CH3][CH-][N+]#[N]"),
    "nitrous oxide": ("[N-]=[N+]=[O]", "[N]#[N+][O-]"),
    "isothiocyanate ion": ("[S-][C]#[N]", "[S]=[C]=[N-]"),
    "sulfoxide": ("[CH3][S](=[O])[CH3]", "[CH3][S+]([O-])[CH3]"),
    "sulfone": ("[CH3][S](=[O])(=[O])[CH3]", "[CH3][S+2]([O-])([O-])[CH3]"),
    "sulfonamide anion": (
        "[CH3][S](=[O])(=[O])[N-][CH3]",
        "[CH3][S]([O-])(=[O])=[N][CH3]",
    ),
    "phosphine oxide": ("[CH3][P](=[O])([CH3])[CH3]", "[CH3][P+]([O-])([CH3])[CH3]"),
    "phosphorus ylide": ("[CH3][P](=[CH2])([CH3])[CH3]", "[CH3][P+]([CH2-])([CH3])[CH3]"),
    "pyridine N-oxide": (
        "[O-][n+]1[cH][cH][cH][cH][cH]1",
        "[O]=[N]1=[CH][CH]=[CH][CH]=[CH]1",
    ),
    "amide": ("[CH3][C](=[O])[NH][CH3]", "[CH3][C]([O-])=[NH+][CH3]"),
    "enolate": ("[CH2]=[C]([O-])[CH3]", "[CH2-][C](=[O])[CH3]"),
    "beta-diketonate": (
        "[CH3][C](=[O])[CH]=[C]([O-])[CH3]",
        "[CH3][C]([O-])=[CH][C](=[O])[CH3]",
        "[CH3][C](=[O])[CH-][C](=[O])[CH3]",
    ),
    "allyl anion": ("[CH2-][CH]=[CH2]", "[CH2]=[CH][CH2-]"),
    "benzene": (
        "[CH3][C]1=[CH][CH]=[CH][CH]=[C]1[Cl]",
        "[CH3][C]1[CH]=[CH][CH]=[CH][C]=1[Cl]",
        "[CH3][c]1[cH][cH][cH][cH][c]1[Cl]",
    ),
    "imidazolium": (
        "[CH3][n]1[cH][cH][nH+][cH]1",
        "[CH3][n+]1[cH][cH][nH][cH]1",
    ),
    "imidazolide": ("[n-]1[cH][cH][n][cH]1", "[n]1[cH][cH][n-][cH]1"),
    "tetrazolate": ("[cH]1[n][n][n][n-]1", "[cH]1[n-][n][n][n]1", "[cH]1[n][n-][n][n]1"),
    "cyclopentadienide": ("[CH-]1[CH]=[CH][CH]=[CH]1", "[CH]1=[CH][CH-][CH]=[CH]1"),
    "pyridone": (
        "[O]=[C]1[CH]=[CH][CH]=[CH][N]1[CH3]",
        "[O-][c]1[cH][cH][cH][cH][n+]1[CH3]",
    ),
    "tropone": (
        "[O]=[C]1[CH]=[CH][CH]=[CH][CH]=[CH]1",
        "[O-][C+]1[CH]=[CH][CH]=[CH][CH]=[CH]1",
    ),
    "cyanine": (
        "[CH3][N]([CH3])[CH]=[CH][CH]=[N+]([CH3])[CH3]",
        "[CH3][N+]([CH3])=[CH][CH]=[CH][N]([CH3])[CH3]",
    ),
    "quinonoid phenolate": (
        "[O-][c]1[cH][cH][c]([N+](=[O])[O-])[cH][cH]1",
        "[O]=[C]1[CH]=[CH][C](=[N+]([O-])[O-])[CH]=[CH]1",
    ),
    "perchlorate": ("[O-][Cl](=[O])(=[O])=[O]", "[O-][Cl+3]([O-])([O-])[O-]"),
    "borazine": ("[BH]1[NH][BH][NH][BH][NH]1", "[BH-]1=[NH+][BH-]=[NH+][BH-]=[NH+]1"),
    "dimethylaminoborane": ("[CH3][N]([CH3])[B]([CH3])[CH3]", "[CH3][N+]([CH3])=[B-]([CH3])[CH3]"),
    "nitrosamine": ("[CH3][N]([CH3])[N]=[O]", "[CH3][N+]([CH3])=[N][O-]"),
    "nitrone": ("[CH3][CH]=[N+]([CH3])[O-]", "[CH3][CH]=[N]([CH3])=[O]"),
    "trimethylamine oxide": ("[CH3][N+]([CH3])([CH3])[O-]", "[CH3][N]([CH3])([CH3])=[O]"),
    "thiocarboxylate": ("[CH3][C](=[O])[S-]", "[CH3][C]([O-])=[S]"),
    "malononitrile anion": (
        "[CH-]([C]#[N])[C]#[N]",
        "[CH](=[C]=[N-])[C]#[N]",
    ),
    "nitrile imine": ("[CH3][C]#[N+][N-][CH3]", "[CH3][C-]=[N+]=[N][CH3]"),
    "azo": ("[CH2]=[CH][N]=[N][CH3]", "[CH2-][CH]=[N+]=[N][CH3]"),
    "nitrile oxide": ("[CH3][C]#[N+][O-]", "[CH3][C-]=[N+]=[O]"),
    "isocyanate": ("[CH3][N]=[C]=[O]", "[CH3][N+]#[C][O-]", "[CH3][N-][C]#[O+]"),
    "propargyl anion": ("[CH2-][C]#[CH]", "[CH2]=[C]=[CH-]"),
}
"""One molecule's resonance forms, atoms in the same order."""

RESONANCE_PAIRS: tuple[tuple[str, str], ...] = tuple(
    (forms[0], form) for forms in RESONANCE.values() for form in forms[1:]
)
"""Two drawings of one molecule each."""
