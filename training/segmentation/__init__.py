"""Stage 1: segmentation of organs and lesions, in the nnU-Net framework on stored cases or in a plain loop on lesions made on the fly."""
