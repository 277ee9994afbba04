"""Small data sets in their own layouts, with empty files for images: adapters open none."""

from collections.abc import Callable
from pathlib import Path

import pytest

# Data set kind -> file below the root -> lines of the table, or None for an image.
LAYOUTS: dict[str, dict[str, list[str] | None]] = {
    "ham10000": {
        "HAM10000_metadata.csv": [
            "lesion_id,image_id,dx,dx_type,age,sex,localization",
            "HAM_1,ISIC_1,nv,histo,0.0,male,back",
            "HAM_1,ISIC_2,nv,histo,0.0,male,back",
            "HAM_2,ISIC_3,mel,follow_up,,unknown,unknown",
        ],
        "HAM10000_images_part_1/ISIC_1.jpg": None,
        "HAM10000_images_part_1/ISIC_2.jpg": None,
        "HAM10000_images_part_2/ISIC_3.jpg": None,
    },
    "isic2018": {
        "ISIC2018_Task3_Training_GroundTruth.csv": [
            "image,MEL,NV,BCC,AKIEC,BKL,DF,VASC",
            "ISIC_1,0.0,1.0,0.0,0.0,0.0,0.0,0.0",
            "ISIC_2,0.0,1.0,0.0,0.0,0.0,0.0,0.0",
            "ISIC_3,0.0,0.0,0.0,1.0,0.0,0.0,0.0",
        ],
        "ISIC2018_Task3_Training_LesionGroupings.csv": [
            "image,lesion_id,diagnosis_confirm_type",
            "ISIC_2,HAM_1,serial imaging showing no change",
            "ISIC_1,HAM_1,serial imaging showing no change",
            "ISIC_3,HAM_2,histopathology",
        ],
        "ISIC2018_Task3_Validation_GroundTruth/ISIC2018_Task3_Validation_GroundTruth.csv": [
            "image,MEL,NV,BCC,AKIEC,BKL,DF,VASC",
            "ISIC_4,1.0,0.0,0.0,0.0,0.0,0.0,0.0",
        ],
        "ISIC2018_Task3_Test_GroundTruth.csv": [
            "image,MEL,NV,BCC,AKIEC,BKL,DF,VASC,score_weight",
            "ISIC_5,0.0,0.0,0.0,0.0,0.0,0.0,1.0,1.0",
            "ISIC_0035068,0.0,1.0,0.0,0.0,0.0,0.0,0.0,0.0",
        ],
        "ISIC2018_Task3_Training_Input/ISIC_1.jpg": None,
        "ISIC2018_Task3_Training_Input/ISIC_2.jpg": None,
        "ISIC2018_Task3_Training_Input/ISIC_3.jpg": None,
        "ISIC2018_Task3_Validation_Input/ISIC_4.jpg": None,
        "ISIC2018_Task3_Test_Input/ISIC_5.jpg": None,
        "ISIC2018_Task3_Test_Input/ISIC_0035068.jpg": None,
    },
    "isic2019": {
        "ISIC_2019_Training_GroundTruth.csv": [
            "image,MEL,NV,BCC,AK,BKL,DF,VASC,SCC,UNK",
            "ISIC_1,0.0,1.0,0,0,0,0,0,0,0",
            "ISIC_2_downsampled,1,0,0,0,0,0,0,0,0",
            "ISIC_3,0,0,0,0,0,0,0,1,0",
        ],
        "ISIC_2019_Training_Metadata.csv": [
            "image,age_approx,anatom_site_general,lesion_id,sex",
            "ISIC_3,0,head/neck,MSK4_1,female",
            "ISIC_1,55,anterior torso,,male",
            "ISIC_2_downsampled,,,,",
        ],
        "ISIC_2019_Training_Input/ISIC_1.jpg": None,
        "ISIC_2019_Training_Input/ISIC_2_downsampled.jpg": None,
        "ISIC_2019_Training_Input/ISIC_3.jpg": None,
    },
    "isic2020": {
        "train.csv": [
            "image_name,patient_id,sex,age_approx,anatom_site_general_challenge,diagnosis,"
            "benign_malignant,target",
            "ISIC_1,IP_1,male,45.0,head/neck,unknown,benign,0",
            "ISIC_2,IP_1,male,45.0,torso,melanoma,malignant,1",
            "ISIC_3,IP_2,,,,lentigo NOS,benign,0",
        ],
        "train/ISIC_1.jpg": None,
        "train/ISIC_2.jpg": None,
        "train/ISIC_3.jpg": None,
    },
    "isic2024": {
        "train-metadata.csv": [
            "isic_id,target,patient_id,age_approx,sex,anatom_site_general,tbp_lv_A,lesion_id,"
            "iddx_full,mel_thick_mm,tbp_lv_dnn_lesion_confidence",
            "ISIC_1,0,IP_1,60.0,male,lower extremity,20.2,,Benign,,97.5",
            "ISIC_2,1,IP_1,60.0,male,torso,18.1,IL_1,Malignant,0.4,3.1",
            "ISIC_3,0,IP_2,,,,25.9,,Benign,,88.0",
        ],
        "train-image/image/ISIC_1.jpg": None,
        "train-image/image/ISIC_2.jpg": None,
        "train-image/image/ISIC_3.jpg": None,
    },
    "pad_ufes20": {
        "metadata.csv": [
            "patient_id,lesion_id,smoke,age,gender,fitspatrick,region,diagnostic,img_id,biopsed",
            "PAT_1,10,,8,,,ARM,NEV,PAT_1_10_1.png,False",
            "PAT_1,11,True,55,FEMALE,3.0,NECK,BCC,PAT_1_11_2.png,True",
            "PAT_2,12,False,79,MALE,1.0,FACE,SEK,PAT_2_12_3.png,False",
        ],
        "imgs_part_1/PAT_1_10_1.png": None,
        "imgs_part_2/PAT_1_11_2.png": None,
        "imgs_part_3/PAT_2_12_3.png": None,
    },
    "isic_archive": {
        "metadata.csv": [
            "image_id,diagnosis,benign_malignant,diagnosis_confirm_type,age_approx,sex,melanocytic",
            "ISIC_1,nevus,benign,,55.0,female,True",
            "ISIC_2,melanoma,malignant,histopathology,30.0,female,True",
            "ISIC_3,,,,,,",
        ],
        "images/ISIC_1.jpg": None,
        "images/ISIC_2.jpg": None,
        "images/ISIC_3.jpg": None,
    },
    "class_folders": {
        "train/melanoma/a.jpg": None,
        "train/nevus/b.jpg": None,
        "val/nevus/c.jpg": None,
    },
    "table": {
        "images.csv": ["image_id,dx", "a,nv", "b,melanoma"],
        "a.jpg": None,
        "b.jpg": None,
    },
}
LAYOUTS["demo"] = LAYOUTS["ham10000"]


@pytest.fixture
def lay_out(tmp_path) -> Callable[[str], Path]:
    """Call with a data set kind: writes a few rows of it and gives the folder."""

    def write(dataset: str) -> Path:
        root = tmp_path / dataset
        for name, lines in LAYOUTS[dataset].items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text("" if lines is None else "\n".join(lines) + "\n")
        return root

    return write
