"""What the segmenters of synthkit share; each module says what it is for.

A library without a plugin of its own. A segmenter brings a :class:`synthkit_segmentation.recipe.Recipe`: its network,
loss, optimiser and schedule. Its declaration imports ``params`` alone; the rest needs torch.

| module | what it holds |
|---|---|
| ``params`` | the parameters that all segmenters have; needs no torch |
| ``recipe`` | what a segmenter brings |
| ``inputs`` | normalisation and padding |
| ``augmentation`` | random transforms of normalised slices |
| ``losses`` | soft Dice and cross-entropy |
| ``feeding`` | which samples are trained and validated on, in which order |
| ``training`` | the resumable training loop |
| ``validation`` | Dice of the validation samples |
| ``checkpoints`` | files of a checkpoint |
| ``prediction`` | labels and probabilities of a stream of images |
"""
