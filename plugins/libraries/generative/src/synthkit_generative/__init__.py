"""What the generators of synthkit share; each module says what it is for.

A library without a plugin of its own. A generator's declaration imports ``params`` alone; the rest needs torch.

| module | what it holds |
|---|---|
| ``params`` | the parameters that all generators have; needs no torch |
| ``training`` | the resumable training loop around a method's own step |
| ``drawing`` | samples from seeds, one after another |
| ``encodings``, ``decoding`` | labels as channels, and back; as grey levels |
| ``gate`` | labels of samples beside real ones, at the end of a training |
| ``data`` | real images in an order that follows from the seed |
| ``freezing`` | first layers of a discriminator that stay as they are |
| ``weights`` | moving averages of weights (EMA), states of optimisers |
| ``batches`` | a batch in microbatches, for less memory |
| ``records`` | statistics of a training, grids of samples as PNG |
| ``layers``, ``discriminator``, ``resampling``, ``adversarial`` | layers, losses and steps of StyleGAN2 and 3 |
| ``kernels`` | what they do to every pixel, for GPUs; needs Triton |
| ``unet`` | the UNet of guided diffusion, for diffusion and EDM |
| ``progressive``, ``growing`` | networks and trainings that grow, of Progressive GAN and StyleGAN |
| ``foreign`` | checkpoints of other projects, read without running what is stored in them |
| ``preflight`` | whether a GPU computes what a CPU computes, for ``synthkit doctor --gpu`` |
| ``testing`` | data and trainings for the tests of generators |
"""
