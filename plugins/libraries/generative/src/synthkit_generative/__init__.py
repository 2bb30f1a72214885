"""What the generators of synthkit share; each module says what it is for.

A library without a plugin of its own: a generator's method imports it, its declaration does not (it needs torch).

| module | what it holds |
|---|---|
| ``training`` | the resumable training loop around a method's own step |
| ``drawing`` | samples from seeds, one after another, with decoded labels |
| ``data`` | real images in an order that follows from the seed |
| ``streams`` | random numbers that follow from a key or from the seed of a sample |
| ``weights`` | averaged weights, states of optimisers |
| ``batches``, ``parallel`` | a batch in parts, for less memory; shared by several processes, one a GPU |
| ``devices`` | device, precision, memory errors |
| ``storage`` | safetensors and JSON files that are whole or absent |
| ``records`` | statistics of a training, grids of samples as PNG |
| ``layers``, ``losses``, ``progressive`` | what adversarial methods have in common |
| ``discriminator``, ``resampling``, ``adversarial`` | the discriminator of StyleGAN2 and 3, and the steps against it |
| ``foreign``, ``foreign_tensorflow`` | checkpoints of other projects, read without running what is stored in them |
| ``unpickling`` | the reader of strangers' pickles that both use |
"""
