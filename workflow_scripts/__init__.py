"""The steps of the workflow, one folder for each stage; none of them knows of Snakemake."""

import gc
import sys

# Python starts a step by importing this package, as `-m` (see sys.argv). What a step imports stays
# until its end: looking for garbage in it takes a third of the time. `run_step` looks for it again.
if sys.argv[:1] == ["-m"]:
    gc.disable()
