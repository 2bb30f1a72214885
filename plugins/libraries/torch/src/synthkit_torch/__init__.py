"""What methods that use torch share; each module says what it is for.

| module | what it holds |
|---|---|
| ``devices`` | device, precision, memory errors |
| ``fused`` | whether operators that are one kernel are used |
| ``processes`` | the launcher of several processes of this machine; needs no torch |
| ``parallel`` | processes, one a GPU, that take a step together |
| ``streams`` | random numbers that follow from a key or from the seed of a sample |
| ``storage`` | safetensors and JSON files that are whole or absent |
"""
