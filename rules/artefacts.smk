# Inputs: models and pairs, as declared under `artefacts` in the config.
# Outputs: artefacts with their reports; the pairs of an attack that remain after filtering.


rule artefact:
    input:
        lambda w: FILES.of_artefact(w.id),
    output:
        values="<results>/artefacts/{id}/values.safetensors",
        report="<results>/artefacts/{id}/report.json",
    log:
        "<logs>/artefact/{id}.log",
    benchmark:
        "<benchmarks>/artefact/{id}.jsonl"
    threads: THREADS["artefact"]
    resources:
        **NEEDS["artefact"],
    params:
        spec=f"{WRITTEN}/specs/artefacts/{{id}}.json",
        folder=subpath(output.values, parent=True),
        # Editing a maker repeats everything that depends on it; editing its imports does not.
        code=lambda w: variant_digest("artefact", PLAN.artefacts.specs[w.id]["make"]),
    shell:
        "python -m workflow_scripts.common.gpus --count {resources.gpu} --"
        " python -m workflow_scripts.artefacts.make --spec {params.spec:q} --cores {threads}"
        " --output {params.folder:q} > {log:q} 2>&1"


rule filter_pairs:
    input:
        manifest=lambda w: f"<results>/attacks/{PLAN.filters[w.id]['attack_id']}/manifest.parquet",
        scores=lambda w: FILES.artefacts_of(PLAN.filters[w.id]),
    output:
        manifest="<results>/filters/{id}/manifest.parquet",
        report="<results>/filters/{id}/report.json",
    log:
        "<logs>/filter_pairs/{id}.log",
    threads: THREADS["small"]
    resources:
        **NEEDS["small"],
    params:
        drop_highest=lambda w: PLAN.filters[w.id]["drop_highest"],
    shell:
        "python -m workflow_scripts.artefacts.filter_pairs --manifest {input.manifest:q}"
        " --scores {input.scores:q} --drop-highest {params.drop_highest:q} --output {output.manifest:q}"
        " > {log:q} 2>&1"


rule filter_classes:
    input:
        manifest=lambda w: f"<results>/attacks/{PLAN.filters[w.id]['attack_id']}/manifest.parquet",
        kept="<results>/filters/{id}/manifest.parquet",
        classes="<results>/evaluation/{evaluation}/classes.json",
    output:
        report(
            "<results>/filters/{id}/classes-of-{evaluation}.csv",
            category="Data",
            subcategory="Filtering",
            caption="report/filter_classes.rst",
            labels={"shows": "clean pairs dropped, by class", "filter": "{id}"},
        ),
    log:
        "<logs>/filter_classes/{id}/{evaluation}.log",
    wildcard_constraints:
        evaluation=r"[A-Za-z0-9_.+-]+",
    threads: THREADS["small"]
    resources:
        **NEEDS["small"],
    params:
        code=code_digest("artefacts/filter_classes.py"),
    shell:
        "python -m workflow_scripts.artefacts.filter_classes --manifest {input.manifest:q}"
        " --kept {input.kept:q} --classes {input.classes:q} --output {output:q} > {log:q} 2>&1"
