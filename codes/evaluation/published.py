"""Published numbers, shown beside measured ones and marked as published.

Source: SpikeReveal (arXiv 2403.09486), its tables and the authors' logs, on the test split of GOPRO. The SSIM of the
logs is `ssim_paper` of `codes.evaluation.metrics`.
"""

# Middle frame at V_th 1: (stage, output) -> metrics.
OUTPUTS = {
    ("bsn", "TFP_9"): {"psnr": 25.997, "ssim_paper": 0.733, "lpips": 0.211},
    ("bsn", "BSN"): {"psnr": 27.365, "ssim_paper": 0.842, "lpips": 0.109},
    ("sr", "SR against blur"): {"psnr": 37.286, "ssim_paper": 0.945, "lpips": 0.109},
    ("sr", "TFP_97 nearest"): {"psnr": 31.124, "ssim_paper": 0.855, "lpips": 0.433},
    ("sr", "BSN SR"): {"psnr": 26.144, "ssim_paper": 0.708, "lpips": 0.349},
    ("sr", "BSN nearest"): {"psnr": 24.490, "ssim_paper": 0.645, "lpips": 0.411},
    ("sr", "TFP_9 nearest"): {"psnr": 22.943, "ssim_paper": 0.461, "lpips": 0.567},
    ("deblur", "teacher"): {"psnr": 26.362, "ssim_paper": 0.732, "lpips": 0.259},
    ("deblur", "LDN"): {"psnr": 27.928, "ssim_paper": 0.786, "lpips": 0.252},
}

# Sequence of seven frames: method -> PSNR at each V_th.
SEQUENCE = {
    "S-SDM (LDN)": {1: 26.89, 2: 26.37, 4: 25.43},
    "SpkDeblurNet": {1: 28.31, 2: 14.41, 4: 11.62},
    "REFID": {1: 28.12, 2: 15.29, 4: 13.62},
}

# Parameters, and 10^9 multiply-adds at 720p.
SIZE = {"BSN": (1_118_832, 216.9), "SR": (1_515_269, 113.1), "LDN": (234_158, 15.9)}
