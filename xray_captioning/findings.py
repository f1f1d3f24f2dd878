"""Names of the findings that labels, metrics and encoders speak about.

References
----------
.. [1] Irvin et al., "CheXpert: A Large Chest Radiograph Dataset with Uncertainty Labels and
   Expert Comparison", AAAI 2019: the first fourteen names.
"""

CHEXPERT = (
    "No Finding",
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
