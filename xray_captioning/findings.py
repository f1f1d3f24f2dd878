"""Names that several rooms share: findings, and the baselines of every comparison.

References
----------
.. [1] Irvin et al., "CheXpert: A Large Chest Radiograph Dataset with Uncertainty Labels and
   Expert Comparison", AAAI 2019: the first fourteen names.
"""

NO_FINDING = "No Finding"

CHEXPERT = (
    NO_FINDING,
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
)

# Reports of the Indiana University collection name these often.
INDIANA = ("Emphysema", "Granuloma", "Scoliosis", "Hiatal Hernia")

FINDINGS = CHEXPERT + INDIANA

# Labels of NIH ChestX-ray14, as its table spells them (Wang et al., CVPR 2017).
NIH14 = (
    "Atelectasis",
    "Cardiomegaly",
    "Effusion",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pneumonia",
    "Pneumothorax",
    "Consolidation",
    "Edema",
    "Emphysema",
    "Fibrosis",
    "Pleural_Thickening",
    "Hernia",
)

# Systems that see no image of a study, or only the features of one: see `evaluation.baselines`.
CONSTANT, MOST_FREQUENT, RANDOM = "constant", "most-frequent", "random"
RETRIEVAL, ORACLE, SHUFFLED = "retrieval", "label-oracle", "shuffled"
