# Needs: models and pairs, as the declarations of the config's `artefacts` name them.
# Makes: artefacts, each with its report; the pairs of an attack that a filter keeps.


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
    conda:
        "../envs/pipeline.yaml"
    threads: THREADS["artefact"]
    resources:
        **NEEDS["artefact"],
    params:
        spec=f"{WRITTEN}/specs/artefacts/{{id}}.json",
        folder=subpath(output.values, parent=True),
        # An edited maker repeats everything that depends on it; what it imports does not.
        code=lambda w: digest(variant_code("artefact", PLAN.artefacts.specs[w.id]["make"])),
    shell:
        "python -m workflow_scripts.common.gpus --count {resources.gpu} --"
        " python -m workflow_scripts.artefacts.make --spec {params.spec:q} --threads {threads}"
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
    conda:
        "../envs/pipeline.yaml"
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
    conda:
        "../envs/pipeline.yaml"
    threads: THREADS["small"]
    resources:
        **NEEDS["small"],
    shell:
        "python -m workflow_scripts.artefacts.filter_classes --manifest {input.manifest:q}"
        " --kept {input.kept:q} --classes {input.classes:q} --output {output:q} > {log:q} 2>&1"
