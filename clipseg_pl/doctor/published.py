"""How many of everything there are in the published datasets."""

PHRASECUT = {
    "train": (71_746, 310_816),
    "val + miniv": (2_971, 20_316),
    "miniv": (100, 821),
    "test": (2_545, 14_354),
    "all splits": (77_262, 345_486),
}
"""images and phrases (README of ChenyunWu/PhraseCutDataset); its row "val" holds miniv, which
`refer_val.json` does not"""

VOC2012 = {"train": 1_464, "val": 1_449}
"""photos in VOC's own lists for segmentation (its web page)"""
TRAIN_AUG = 10_582
"""photos of the augmented training list (JoEm's, with SBD's label maps)"""
VOC_CLASSES = 20

PFENET_VAL = 1_449
"""lines of `lists/pascal/val.txt` of Jia-Research-Lab/PFENet"""
HSNET_PASCAL = (346, 451, 725, 346)
"""lines of `data/splits/pascal/val/fold<k>.txt` of juhongm999/hsnet"""

HSNET_COCO = {
    "trn": ((62_040, 95_476), (74_381, 133_927), (73_035, 141_054), (73_808, 141_016)),
    "val": ((26_052, 35_783), (15_305, 17_912), (13_138, 14_563), (12_640, 14_315)),
}
"""different photos and entries of `data/splits/coco/<part>/fold<k>.pkl` of juhongm999/hsnet"""

LVIS_CATEGORIES = 1_203
"""of LVIS v1 (lvisdataset.org)"""
