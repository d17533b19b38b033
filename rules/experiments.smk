# Needs: the config.
# Makes: run tables; what all of it costs, and what would fail. (Specs are written by `onstart`.)

from workflow_scripts.experiments.dry_run import shorten_dry_run

shorten_dry_run(workflow, config, PLAN)


rule runs_table:
    output:
        "<results>/workflow/runs/{experiment}-{digest}.csv",
    log:
        "<logs>/runs_table/{experiment}-{digest}.log",
    localrule: True
    conda:
        "../envs/pipeline.yaml"
    params:
        table=lambda w: run_rows(PLAN.experiments[w.experiment]),
    shell:
        "printf '%s' {params.table:q} > {output:q} 2> {log:q}"


rule figure_spec:
    output:
        "<results>/workflow/figures/{experiment}-{figure}-{digest}.json",
    log:
        "<logs>/figure_spec/{experiment}-{figure}-{digest}.log",
    localrule: True
    conda:
        "../envs/pipeline.yaml"
    params:
        spec=lambda w: json.dumps(figure_of(w)),
    shell:
        "printf '%s' {params.spec:q} > {output:q} 2> {log:q}"


# Without an output it runs each time that it is asked for: what exists already is in it.
rule plan:
    log:
        "<logs>/plan.log",
    localrule: True
    conda:
        "../envs/pipeline.yaml"
    params:
        folder=WRITTEN,
    shell:
        "python -m workflow_scripts.experiments.plan --config {params.folder:q}/config.json"
        " --output {params.folder:q}"
        " 2>&1 | tee {log:q}"


rule preflight:
    log:
        "<logs>/preflight.log",
    # Trying again would only say the same again.
    retries: 0
    localrule: True
    conda:
        "../envs/pipeline.yaml"
    params:
        config=f"{WRITTEN}/config.json",
        executor=lambda w: workflow.executor_plugin.name,
    shell:
        "python -m workflow_scripts.experiments.preflight --config {params.config:q}"
        " --executor {params.executor:q} 2>&1 | tee {log:q}"
