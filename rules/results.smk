# Inputs: the metrics of each run of an experiment.
# Outputs: tables of metrics, contamination and best models, figures, and a table of the runs behind them;
#          the results page; the workflow's graphs; all of these as a Workflow Run RO-Crate.

from workflow_scripts.experiments.check_figures import TABLES

for experiment in PLAN.experiments:

    rule:
        name:
            experiment
        input:
            # A function, so that Snakemake makes the list only for the experiments asked for.
            lambda w, experiment=experiment: FILES.experiment(experiment),


rule all_experiments:
    input:
        lambda w: [file for name in PLAN.experiments for file in FILES.experiment(name)],
        "<results>/pages/all_experiments/index.html",


# One HTML file: index.html for the experiments of `all`, pages/A+B/index.html for the experiments A and B.
rule page:
    input:
        lambda w: FILES.page(w.page),
        metrics=lambda w: FILES.page_metrics(w.page),
    output:
        "<results>/{page}index.html",
    log:
        "<logs>/{page}page.log",
    wildcard_constraints:
        page=r"(pages/[a-z][a-z0-9_+]*/)?",
    threads: THREADS["small"]
    resources:
        **NEEDS["small"],
    params:
        root=lambda w, output: str(Path(output[0]).parents[w.page.count("/")]),
        command=f"snakemake --configfile {WRITTEN}/config.json --cores all",
        code=code_digest("results/index/build.py"),
        assets=assets_digest("results/index/assets"),
    shell:
        "python -m workflow_scripts.results.index.build --experiments {input.metrics:q}"
        " --root {params.root:q} --command {params.command:q} --output {output:q} > {log:q} 2>&1"


rule collect:
    input:
        lambda w: FILES.runs(w.experiment),
        runs="<results>/experiments/{experiment}/runs.csv",
    output:
        parquet="<results>/experiments/{experiment}/metrics.parquet",
        csv="<results>/experiments/{experiment}/metrics.csv",
        long="<results>/experiments/{experiment}/metrics_long.parquet",
        long_csv="<results>/experiments/{experiment}/metrics_long.csv",
    log:
        "<logs>/collect/{experiment}.log",
    threads: THREADS["small"]
    resources:
        **NEEDS["small"],
    params:
        root=subpath(output.parquet, ancestor=3),
        code=code_digest("results/collect.py"),
    shell:
        "python -m workflow_scripts.results.collect --runs {input.runs:q} --root {params.root:q}"
        " --output {output.parquet:q} > {log:q} 2>&1"


rule collect_all:
    input:
        expand("<results>/experiments/{experiment}/metrics.parquet", experiment=config["all"]),
    output:
        parquet="<results>/metrics.parquet",
        csv="<results>/metrics.csv",
    log:
        "<logs>/collect_all.log",
    threads: THREADS["small"]
    resources:
        **NEEDS["small"],
    params:
        code=code_digest("results/collect.py"),
    shell:
        "python -m workflow_scripts.results.collect --experiments {input:q}"
        " --output {output.parquet:q} > {log:q} 2>&1"


rule leaks:
    input:
        reports=lambda w: [
            f"<results>/splits/{split}/report.json"
            for _, split, _ in FILES.cleaned_on(w.experiment)
        ],
        duplicates=lambda w: FILES.contamination(w.experiment),
    output:
        "<results>/experiments/{experiment}/leaks.csv",
    log:
        "<logs>/leaks/{experiment}.log",
    threads: THREADS["small"]
    resources:
        **NEEDS["small"],
    params:
        starts=lambda w: [start for start, _, _ in FILES.cleaned_on(w.experiment)],
        code=code_digest("results/contamination_table.py"),
    shell:
        "python -m workflow_scripts.results.contamination_table --starts {params.starts:q}"
        " --reports {input.reports:q} --duplicates {input.duplicates:q} --output {output:q}"
        " > {log:q} 2>&1"


# Flags runs made by another version of the code; they are neither hidden nor repeated.
rule runs_report:
    input:
        lambda w: FILES.runs(w.experiment),
        runs="<results>/experiments/{experiment}/runs.csv",
    output:
        html=report(
            "<results>/experiments/{experiment}/runs.html",
            category="Experiments",
            subcategory="{experiment}",
            caption="report/runs.rst",
            labels={"shows": "runs and their code"},
        ),
        note="<results>/experiments/{experiment}/runs.rst",
    log:
        "<logs>/runs_report/{experiment}.log",
    threads: THREADS["small"]
    resources:
        **NEEDS["small"],
    params:
        of_runs=lambda w: FILES.code_of_runs(w.experiment),
        root=subpath(output.html, ancestor=3),
        code=code_digest("results/run_table.py"),
    shell:
        "python -m workflow_scripts.results.run_table --runs {input.runs:q} --root {params.root:q}"
        " --output {output.html:q} > {log:q} 2>&1"


rule best:
    input:
        metrics="<results>/experiments/{experiment}/metrics.parquet",
        leaks="<results>/experiments/{experiment}/leaks.csv",
        # Only for the caption; not ancient(), which would hide other reasons to run from Snakemake.
        code="<results>/experiments/{experiment}/runs.rst",
    output:
        csv="<results>/experiments/{experiment}/best.csv",
        markdown="<results>/experiments/{experiment}/best.md",
        html=report(
            "<results>/experiments/{experiment}/best.html",
            category="Experiments",
            subcategory="{experiment}",
            caption="report/best.rst",
            labels={"shows": "best accuracy at a low ASR"},
        ),
    log:
        "<logs>/best/{experiment}.log",
    threads: THREADS["small"]
    resources:
        **NEEDS["small"],
    params:
        code=code_digest("results/best.py"),
    shell:
        "python -m workflow_scripts.results.best --metrics {input.metrics:q} --leaks {input.leaks:q}"
        " --output {output.csv:q} > {log:q} 2>&1"


rule artefact_table:
    input:
        lambda w: FILES.artefact_reports(w.experiment),
        rows=lambda w: FILES.declared_artefacts(w.experiment),
    output:
        csv="<results>/experiments/{experiment}/artefacts.csv",
        html=report(
            "<results>/experiments/{experiment}/artefacts.html",
            category="Experiments",
            subcategory="{experiment}",
            caption="report/artefacts.rst",
            labels={"shows": "artefacts by start model"},
        ),
    log:
        "<logs>/artefact_table/{experiment}.log",
    threads: THREADS["small"]
    resources:
        **NEEDS["small"],
    params:
        root=subpath(output.csv, ancestor=3),
        code=code_digest("results/artefacts.py"),
    shell:
        "python -m workflow_scripts.results.artefacts --rows {input.rows:q} --root {params.root:q}"
        " --output {output.csv:q} > {log:q} 2>&1"


rule measures_table:
    input:
        lambda w: FILES.measures(w.experiment),
        declared=lambda w: FILES.declared_measures(w.experiment),
        runs="<results>/experiments/{experiment}/runs.csv",
        # Only for the caption; not ancient(), which would hide other reasons to run from Snakemake.
        code="<results>/experiments/{experiment}/runs.rst",
    output:
        csv="<results>/experiments/{experiment}/measures.csv",
        html=report(
            "<results>/experiments/{experiment}/measures.html",
            category="Experiments",
            subcategory="{experiment}",
            caption="report/measures.rst",
            labels={"shows": "measures of the models"},
        ),
    log:
        "<logs>/measures_table/{experiment}.log",
    threads: THREADS["small"]
    resources:
        **NEEDS["small"],
    params:
        root=subpath(output.csv, ancestor=3),
        code=code_digest("results/measures_table.py"),
    shell:
        "python -m workflow_scripts.results.measures_table --runs {input.runs:q}"
        " --declared {input.declared:q} --root {params.root:q} --output {output.csv:q}"
        " > {log:q} 2>&1"


rule figure:
    input:
        lambda w: FILES.points_under(w.experiment, w.figure),
        spec=lambda w: FILES.figure_spec(w.experiment, w.figure),
        metrics="<results>/experiments/{experiment}/metrics.parquet",
        # Only for the caption; not ancient(), which would hide other reasons to run from Snakemake.
        code="<results>/experiments/{experiment}/runs.rst",
    output:
        png=report(
            "<results>/experiments/{experiment}/{figure}.png",
            category="Experiments",
            subcategory="{experiment}",
            caption="report/figure.rst",
            labels={"shows": "{figure}"},
        ),
        pdf="<results>/experiments/{experiment}/{figure}.pdf",
        numbers="<results>/experiments/{experiment}/{figure}.csv",
        reading="<results>/experiments/{experiment}/{figure}.rst",
    log:
        "<logs>/figure/{experiment}/{figure}.log",
    wildcard_constraints:
        figure=rf"(?!(?:{'|'.join(TABLES)})\.)[a-z][a-z0-9_]*",
    threads: THREADS["small"]
    resources:
        **NEEDS["small"],
    params:
        code=lambda w: code_digest(
            "results/figure.py",
            "results/figure_numbers.py",
            variants.source("figure", FILES.figure(w.experiment, w.figure)["kind"]),
        ),
    shell:
        "python -m workflow_scripts.results.figure --metrics {input.metrics:q}"
        ' --spec "$(cat {input.spec:q})" --output {output.png:q} {output.pdf:q} > {log:q} 2>&1;'
        " python -m workflow_scripts.results.figure_numbers --metrics {input.metrics:q}"
        ' --spec "$(cat {input.spec:q})" --output {output.reading:q} >> {log:q} 2>&1'


# Drawn from the redacted config, in which a URL list with a token in its query has another id.
rule graph:
    output:
        report(
            "<results>/workflow/{graph}.svg",
            category="Graphs",
            caption="report/graph.rst",
            labels={"shows": "graph of {graph}"},
        ),
    log:
        "<logs>/graph/{graph}.log",
    wildcard_constraints:
        graph="rules|jobs",
    threads: THREADS["small"]
    resources:
        **NEEDS["small"],
    params:
        snakefile=os.path.relpath(workflow.main_snakefile),
        config=f"{WRITTEN}/config.json",
        changed=lambda w: digest([PLAN.experiments, config["all"]]),
        option=lambda w: {"rules": "--rulegraph", "jobs": "--dag"}[w.graph],
        draw=lambda w: {"rules": "dot", "jobs": "dot -Grankdir=LR -Granksep=2"}[w.graph],
    shell:
        "snakemake --snakefile {params.snakefile:q} --configfile {params.config:q} --nolock --quiet all"
        " --forceall {params.option} dot all 2> {log:q} | {params.draw} -Tsvg -o {output:q} 2>> {log:q}"


rule crate:
    input:
        lambda w: FILES.everything(),
    output:
        directory("<results>/crate"),
    log:
        "<logs>/crate.log",
    threads: THREADS["small"]
    resources:
        **NEEDS["small"],
    params:
        results=subpath(output[0], parent=True),
        changed=digest(config),
        code=code_digest("results/crate.py"),
    shell:
        "python -m workflow_scripts.results.crate --results {params.results:q}"
        " --output {output:q} > {log:q} 2>&1"
