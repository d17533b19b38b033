# Does fine-tuning on clean data remove a backdoor from a CLIP model?
#
#     snakemake --profile slurm all      the whole paper, on a cluster
#     snakemake --profile demo all       the whole paper at toy scale, on a laptop
#     snakemake -n EXPERIMENT            list the jobs of one experiment of the config
#
# Each stage has a file in rules/ and a folder in workflow_scripts/.
import gc
import sys

# Garbage collection would scan what Snakemake has imported, and the graph of thousands of jobs, again and again:
# a fifth of the time of a dry run.
gc.freeze()
gc.set_threshold(100_000)
sys.path.insert(0, str(workflow.basedir))
from workflow_scripts.common.errors import interrupt_without_traceback
from workflow_scripts.experiments.command_line import (
    check_targets,
    command_line_targets,
    keep_profile_configfiles,
)

interrupt_without_traceback()
keep_profile_configfiles(workflow)


# The paper's config, overridden by the profile's config file, the files of --configfile in order, and --config.
configfile: f"{workflow.basedir}/config.yaml"


# Used with `--sdm apptainer`; envs/pipeline.def says how to build it.
container: "envs/pipeline.sif"


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


# Specs are not written by a rule. As inputs, they would repeat every training when only execution settings
# have changed; as `ancient` inputs, they would hide missing runs from Snakemake. The name of a spec contains
# the digest of all settings that a run depends on.
onstart:
    # With a limit of job starts, Snakemake 9.27 looks for jobs to start every second, once per finished job:
    # after a thousand jobs, it never idles. The option --max-jobs-per-timespan cannot turn the limit off.
    workflow.scheduler.job_rate_limiter = None
    write_specs(config, PLAN, Path(WRITTEN))


rule all:
    default_target: True
    input:
        lambda w: FILES.everything(),


if workflow.is_main_process:
    try:
        check_targets(command_line_targets(), {rule.name for rule in workflow.rules})
    except StepError as error:
        raise WorkflowError(str(error))
