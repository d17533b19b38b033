# Inputs: the config.
# Outputs: run tables; cost estimates (`plan`) and checks (`preflight`). Specs are written by `onstart`.

from workflow_scripts.experiments.dry_run import shorten_dry_run

shorten_dry_run(workflow, config, PLAN)


# The digest in the name makes a changed table or figure another file. Snakemake thus notices changes even
# without its records (.snakemake), for example after the results were copied.
rule declared_runs:
    output:
        "<results>/workflow/runs/{experiment}-{digest}.csv",
    log:
        "<logs>/declared_runs/{experiment}-{digest}.log",
    localrule: True
    params:
        table=lambda w: run_rows(PLAN.experiments[w.experiment]),
    shell:
        # Written by `onstart`, because a command line holds only a few hundred rows.
        f"cp {shlex.quote(WRITTEN)}/arguments/runs/"
        "{wildcards.experiment:q}.csv {output:q} 2> {log:q}"


rule runs_table:
    input:
        lambda w: FILES.declared_runs(w.experiment),
    output:
        "<results>/experiments/{experiment}/runs.csv",
    log:
        "<logs>/runs_table/{experiment}.log",
    localrule: True
    shell:
        "cp {input:q} {output:q} 2> {log:q}"


rule declared_artefacts:
    output:
        "<results>/workflow/artefacts/{experiment}-{digest}.json",
    log:
        "<logs>/declared_artefacts/{experiment}-{digest}.log",
    localrule: True
    params:
        rows=lambda w: json.dumps(PLAN.reports[w.experiment]),
    shell:
        f"cp {shlex.quote(WRITTEN)}/arguments/artefacts/"
        "{wildcards.experiment:q}.json {output:q} 2> {log:q}"


rule figure_spec:
    output:
        "<results>/workflow/figures/{experiment}-{figure}-{digest}.json",
    log:
        "<logs>/figure_spec/{experiment}-{figure}-{digest}.log",
    localrule: True
    params:
        spec=lambda w: json.dumps(FILES.figure(w.experiment, w.figure)),
    shell:
        "printf '%s' {params.spec:q} > {output:q} 2> {log:q}"


# Lists the variants that the config accepts.
rule variants:
    log:
        "<logs>/variants.log",
    localrule: True
    shell:
        "python -m workflow_scripts.experiments.list_variants 2>&1 | tee {log:q}"


# Without an output, these rules run whenever they are requested, so that they reflect finished jobs.
for experiment in [None, *PLAN.experiments]:
    end = f"_{experiment}" if experiment else ""

    rule:
        name:
            f"plan{end}"
        log:
            f"<logs>/plan{end}.log",
        # A retry would only repeat the message.
        retries: 0
        localrule: True
        params:
            folder=WRITTEN,
            options=options({"experiment": experiment, **available_machines(workflow)}),
        shell:
            "python -m workflow_scripts.experiments.plan --config {params.folder:q}/arguments/config.json"
            " --output {params.folder:q} {params.options:q} 2>&1 | tee {log:q}"

    rule:
        name:
            f"preflight{end}"
        log:
            f"<logs>/preflight{end}.log",
        retries: 0
        localrule: True
        params:
            config=f"{WRITTEN}/arguments/config.json",
            options=options(
                {"experiment": experiment, "gpus": available_machines(workflow)["gpus"]}
            ),
            executor=lambda w: workflow.executor_plugin.name,
        shell:
            "python -m workflow_scripts.experiments.preflight --config {params.config:q}"
            " --executor {params.executor:q} {params.options:q} 2>&1 | tee {log:q}"
