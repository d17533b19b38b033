# Does fine-tuning on clean data remove a backdoor from a CLIP model?
#
#     snakemake --profile slurm all      the whole paper, on a cluster
#     snakemake --profile demo all       the whole paper in miniature, on a laptop
#     snakemake -n EXPERIMENT            what one experiment of the config would run
#
# Each stage is one file in rules/ and one folder in workflow_scripts/.
import gc
import sys

# The graph of thousands of jobs stays: looking through it for garbage at each step takes a tenth of the time.
gc.set_threshold(100_000)
sys.path.insert(0, str(workflow.basedir))
from workflow_scripts.common.errors import interrupt_without_traceback
from workflow_scripts.experiments.profiles import keep_profile_configfiles

interrupt_without_traceback()
keep_profile_configfiles(workflow)


# The paper. Then come the profile's config file, those of --configfile in their order, and --config.
configfile: f"{workflow.basedir}/config.yaml"


report: "rules/report/workflow.rst"


include: "rules/common.smk"
include: "rules/experiments.smk"
include: "rules/data.smk"
include: "rules/poison.smk"
include: "rules/artefacts.smk"
include: "rules/captions.smk"
include: "rules/pretraining.smk"
include: "rules/cleaning.smk"
include: "rules/evaluation.smk"
include: "rules/results.smk"
include: "rules/demo.smk"


# No rule writes the specs. As inputs they would have every training run again when only the way changed in
# which runs are carried out (or, as `ancient` ones, hide from Snakemake that a run is missing): a spec's path
# is the digest of all that a run depends on.
onstart:
    write_specs(config, PLAN, Path(WRITTEN))


rule all:
    default_target: True
    input:
        FILES.everything(),
