"""CLIPSeg (Lüddecke & Ecker, CVPR 2022): image segmentation using text and image prompts."""

__version__ = "0.1.0"
