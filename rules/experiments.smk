# Needs: the config.
# Makes: what the config declares, as files that steps read: specs, run tables, the config itself.


# One job for all of them: as jobs of their own they would be half of the paper's DAG. A spec is found by
# its id, which is the digest of its content: what else stands in the file (how runs are carried out) may
# change without any run being done again, so that all who read it take it as ancient.
rule specs:
    input:
        "<results>/workflow/config.json",
    output:
        # Kept while it is written anew: were it gone, all that read it would have to run again.
        update(directory("<results>/workflow/specs")),
    log:
        "<logs>/specs.log",
    localrule: True
    conda:
        "../envs/pipeline.yaml"
    shell:
        "python -m workflow_scripts.experiments.specs --config {input} --output {output} > {log} 2>&1"


rule runs_table:
    output:
        "<results>/experiments/{experiment}/runs.csv",
    log:
        "<logs>/runs_table/{experiment}.log",
    localrule: True
    conda:
        "../envs/pipeline.yaml"
    params:
        table=lambda w: run_rows(PLAN.experiments[w.experiment]),
    shell:
        "printf '%s' {params.table:q} > {output} 2> {log}"


rule whole_config:
    output:
        "<results>/workflow/config.json",
    log:
        "<logs>/whole_config.log",
    localrule: True
    conda:
        "../envs/pipeline.yaml"
    params:
        config=json.dumps(config, indent=2),
    shell:
        "printf '%s\\n' {params.config:q} > {output} 2> {log}"


# Without an output it runs each time that it is asked for: what exists already is in it.
rule plan:
    input:
        "<results>/workflow/config.json",
    log:
        "<logs>/plan.log",
    localrule: True
    conda:
        "../envs/pipeline.yaml"
    params:
        folder=subpath(input[0], parent=True),
    shell:
        "python -m workflow_scripts.experiments.plan --config {input} --output {params.folder}"
        " 2>&1 | tee {log}"


rule preflight:
    input:
        "<results>/workflow/config.json",
    log:
        "<logs>/preflight.log",
    # Trying again would only say the same again.
    retries: 0
    localrule: True
    conda:
        "../envs/pipeline.yaml"
    params:
        executor=lambda w: workflow.executor_plugin.name,
    shell:
        "python -m workflow_scripts.experiments.preflight --config {input}"
        " --executor {params.executor} 2>&1 | tee {log}"
