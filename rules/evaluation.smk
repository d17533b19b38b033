# Inputs: a finished model; an evaluation set and a clean split, if the measure uses them.
# Outputs: the numbers of one measure for one model; the audit of a checkpoint; models for publication.
#          No run depends on them.

from workflow_scripts.experiments.audits import (
    audit_arguments,
    audited_evaluation,
    demo_audit_arguments,
    demo_audit_inputs,
)
from workflow_scripts.experiments.zoo import evaluation_of, zoo_files, zoo_models

ZOO = zoo_models(config, PLAN)


rule measure:
    input:
        lambda w: FILES.of_measure(w.measure),
        model="<results>/{model}/model.pt",
    output:
        "<results>/measures/{model}/{measure}.csv",
    log:
        "<logs>/measure/{model}/{measure}.log",
    benchmark:
        "<benchmarks>/measure/{model}/{measure}.jsonl"
    wildcard_constraints:
        model=r"(cleaning|pretraining)/[A-Za-z0-9_.+-]+(/(epoch-\d+|best_accuracy|matches-[0-9a-f]{8}))?",
        measure=one_of(PLAN.measures),
    threads: THREADS["measure"]
    resources:
        **NEEDS["measure"],
    params:
        run=lambda w: spec_of_run(WRITTEN, w.model),
        spec=f"{WRITTEN}/specs/measures/{{measure}}.json",
        # Editing a measure repeats it; editing its imports does not.
        code=lambda w: variant_digest("measure", PLAN.measures[w.measure]["measure"]),
    shell:
        "python -m workflow_scripts.common.gpus --count {resources.gpu} --"
        " python -m workflow_scripts.evaluation.measure --spec {params.run:q}"
        " --checkpoint {input.model:q} --measure {params.spec:q} --cores {threads}"
        " --output {output:q} > {log:q} 2>&1"


rule declared_measures:
    output:
        "<results>/workflow/measures/{experiment}-{digest}.csv",
    log:
        "<logs>/declared_measures/{experiment}-{digest}.log",
    localrule: True
    params:
        # Written by `onstart`, because a command line holds only a few hundred rows.
        table=f"{WRITTEN}/arguments/measures/{{experiment}}-{{digest}}.csv",
    shell:
        "cp {params.table:q} {output:q} 2> {log:q}"


# Without an output, the rule runs whenever it is requested; it reuses its earlier results.
if config["audit"]:

    rule audit:
        input:
            *[
                f"<results>/{set}/manifest.parquet"
                for set in [audited_evaluation(config, PLAN)]
                if set
            ],
        log:
            "<logs>/audit.log",
        # A retry would only repeat the message.
        retries: 0
        threads: THREADS["measure"]
        resources:
            **NEEDS["measure"],
        params:
            options=audit_arguments(config, PLAN),
        shell:
            "python -m workflow_scripts.common.gpus --count {resources.gpu} --"
            " python -m workflow_scripts.evaluation.audit {params.options:q} --cores {threads}"
            " --own-files --exit-zero 2>&1 | tee {log:q}"

else:

    rule audit:
        log:
            "<logs>/audit.log",
        retries: 0
        localrule: True
        shell:
            "echo 'error: no model and checkpoint given; use, for example,"
            ' --config audit="{{model: RN50-quickgelu, checkpoint: mine.pt}}"\' | tee {log:q} >&2; exit 1'


if "demo" in config:

    rule demo_audit:
        input:
            expand("<results>/audits/{name}/index.html", name=["poisoned", "clean"]),

    # The audit of the control reuses its results from the audit of the poisoned model.
    rule audit_of_demo:
        input:
            lambda w: demo_audit_inputs(PLAN, w.name),
        output:
            html=report(
                "<results>/audits/{name}/index.html",
                category="Audits",
                caption="report/audit.rst",
                labels={"shows": "audit of a model", "model": "{name}"},
            ),
            json="<results>/audits/{name}/audit.json",
        log:
            "<logs>/audit_of_demo/{name}.log",
        wildcard_constraints:
            name="poisoned|clean",
        threads: THREADS["measure"]
        resources:
            **NEEDS["measure"],
        params:
            options=lambda w: demo_audit_arguments(config, PLAN, w.name),
            code=code_digest("evaluation/audit.py"),
        shell:
            "python -m workflow_scripts.evaluation.audit {params.options:q} --cores {threads}"
            " --own-files --exit-zero > {log:q} 2>&1"


rule zoo:
    input:
        lambda w: zoo_files(config, PLAN),


rule zoo_model:
    input:
        model=lambda w: f"<results>/{ZOO[w.model]}/model.pt",
        metrics=lambda w: f"<results>/{ZOO[w.model]}/metrics.csv",
    output:
        weights="<results>/zoo/{model}/open_clip_model.safetensors",
        config="<results>/zoo/{model}/open_clip_config.json",
        readme="<results>/zoo/{model}/README.md",
        card="<results>/zoo/{model}/card.json",
    log:
        "<logs>/zoo_model/{model}.log",
    wildcard_constraints:
        model=one_of(ZOO),
    threads: THREADS["small"]
    resources:
        **NEEDS["small"],
    params:
        spec=lambda w: spec_of_run(WRITTEN, ZOO[w.model]),
        options=options({key: config["zoo"][key] for key in ("select", "licence")}),
        folder=subpath(output.card, parent=True),
        code=code_digest("evaluation/zoo/write.py"),
    shell:
        "python -m workflow_scripts.evaluation.zoo.write --spec {params.spec:q}"
        " --checkpoint {input.model:q} --metrics {input.metrics:q} {params.options:q}"
        " --output {params.folder:q} > {log:q} 2>&1"


rule zoo_check:
    input:
        weights="<results>/zoo/{model}/open_clip_model.safetensors",
        card="<results>/zoo/{model}/card.json",
        evaluation=lambda w: f"<results>/evaluation/{evaluation_of(PLAN, ZOO[w.model])}/manifest.parquet",
    output:
        "<results>/zoo/{model}/check.json",
    log:
        "<logs>/zoo_check/{model}.log",
    wildcard_constraints:
        model=one_of(ZOO),
    threads: THREADS["measure"]
    resources:
        **NEEDS["measure"],
    params:
        root=subpath(input.evaluation, ancestor=3),
        folder=subpath(input.card, parent=True),
        evaluation=subpath(input.evaluation, parent=True),
    shell:
        "python -m workflow_scripts.common.gpus --count {resources.gpu} --"
        " python -m workflow_scripts.evaluation.zoo.check --own-files --folder {params.folder:q}"
        " --evaluation {params.evaluation:q} --root {params.root:q} --cores {threads}"
        " --output {output:q} > {log:q} 2>&1"


rule zoo_index:
    input:
        expand("<results>/zoo/{model}/check.json", model=ZOO),
    output:
        readme="<results>/zoo/README.md",
        sums="<results>/zoo/SHA256SUMS",
    log:
        "<logs>/zoo_index.log",
    threads: THREADS["small"]
    resources:
        **NEEDS["small"],
    params:
        models=list(ZOO),
        folder=subpath(output.readme, parent=True),
        code=code_digest("evaluation/zoo/index.py"),
    shell:
        "python -m workflow_scripts.evaluation.zoo.index --folder {params.folder:q}"
        " --models {params.models:q} > {log:q} 2>&1"


rule croissant:
    input:
        "<results>/{kind}/{id}/manifest.parquet",
    output:
        json="<results>/zoo/data/{kind}/{id}/croissant.json",
        manifest="<results>/zoo/data/{kind}/{id}/manifest.parquet",
    log:
        "<logs>/croissant/{kind}/{id}.log",
    wildcard_constraints:
        kind="attacks|filters|splits|evaluation",
    threads: THREADS["small"]
    resources:
        **NEEDS["small"],
    params:
        licence=config["zoo"]["licence"],
        url=config["zoo"]["url"],
        what=lambda w: {
            "attacks": "Pairs of images and captions, some of them poisoned on purpose.",
            "filters": "Poisoned pairs that a filter kept.",
            "splits": "Pairs of images and captions that models are cleaned with.",
            "evaluation": "Labelled images that models are measured on.",
        }[w.kind],
    shell:
        "python -m workflow_scripts.data.croissant --manifest {input:q} --name {wildcards.id:q}"
        " --description {params.what:q} --licence {params.licence:q} --url {params.url:q}"
        " --output {output.json:q} > {log:q} 2>&1"
