"""The whole comparison in one file and one command: generators x segmenters x arms x seeds, on Snakemake.

| module | what it holds |
|---|---|
| ``config`` | ``study.toml``: what is compared, checked |
| ``layout`` | where each run lies in the folder of a study |
| ``plan`` | the steps, each an ordinary command, and what they need |
| ``step`` | executes one step: resumes, begins anew, notes what came out |
| ``workflow`` | hands the steps to Snakemake, which schedules them here or on a cluster |
| ``progress`` | what is done, running, failed |
| ``results`` | the numbers of all steps that are done |
| ``report`` | one page of them |
| ``tables``, ``figures``, ``gallery`` | its parts |
| ``crate`` | RO-Crate of a study |
| ``deidentify`` | texts without names of subjects, for the crate |
"""
