# Inputs: URL lists and labelled images, as declared under `sources` and `evaluations` in the config.
# Outputs: image shards and a manifest of usable pairs for each source, subsets, evaluation sets, and
#          the number of images that a subset and an evaluation set share.


rule url_list:
    input:
        world=lambda w: world_files(PLAN.data.lists[w.id]["name"]),
        list=lambda w: made_here(config["sources"][PLAN.data.lists[w.id]["name"]]["list"]),
    output:
        report="<results>/lists/{id}/urls.json",
        parts=directory("<results>/lists/{id}/parts"),
    log:
        "<logs>/url_list/{id}.log",
    benchmark:
        "<benchmarks>/url_list/{id}.jsonl"
    wildcard_constraints:
        id=one_of(PLAN.data.lists),
    threads: THREADS["url_list"]
    resources:
        **NEEDS["url_list"],
    params:
        folder=subpath(output.report, parent=True),
        serve=lambda w: server(PLAN.data.lists[w.id]["name"]),
        arguments=lambda w: arguments("url_list", w.id),
    shell:
        "exec {params.serve} python -m workflow_scripts.data.urls {params.arguments:q}"
        " --output {params.folder:q} > {log:q} 2>&1"


rule download:
    input:
        parts=lambda w: f"<results>/lists/{PLAN.data.shards[w.id]['list']}/parts",
        world=lambda w: world_files(source_name(w.id)),
    output:
        directory("<results>/shards/{id}/{part}"),
    log:
        "<logs>/download/{id}/{part}.log",
    benchmark:
        "<benchmarks>/download/{id}/{part}.jsonl"
    wildcard_constraints:
        id=one_of(PLAN.data.shards),
    # Network errors are common.
    retries: 2
    threads: THREADS["download"]
    resources:
        **NEEDS["download"],
    params:
        serve=lambda w: server(source_name(w.id)),
        arguments=lambda w: arguments("download", w.id),
    shell:
        "exec {params.serve} python -m workflow_scripts.data.download {params.arguments:q}"
        " --part {input.parts:q}/{wildcards.part}.parquet --output {output:q} --processes {threads}"
        " > {log:q} 2>&1"


rule usable:
    input:
        parts=lambda w: f"<results>/lists/{list_of(w.id)}/parts",
        shards=lambda w: f"<results>/shards/{PLAN.data.sources[w.id]['shards']}/{w.part}",
    output:
        pairs="<results>/sources/{id}/pairs/{part}.parquet",
        report="<results>/sources/{id}/pairs/{part}.json",
    log:
        "<logs>/usable/{id}/{part}.log",
    wildcard_constraints:
        id=one_of(PLAN.data.sources),
    threads: THREADS["usable"]
    resources:
        **NEEDS["usable"],
    params:
        root=subpath(output.pairs, ancestor=4),
        min_size=lambda w: PLAN.data.sources[w.id]["min_size"],
    shell:
        "python -m workflow_scripts.data.usable --part {input.parts:q}/{wildcards.part}.parquet"
        " --shards {input.shards:q} --root {params.root:q} --min-size {params.min_size:q}"
        " --workers {threads} --output {output.pairs:q} > {log:q} 2>&1"


rule merge:
    input:
        urls=lambda w: f"<results>/lists/{list_of(w.id)}/urls.json",
        pairs=lambda w: [
            f"<results>/sources/{w.id}/pairs/{part}.{end}"
            for part in parts(PLAN.data.sources[w.id]["shards"])
            for end in ("parquet", "json")
        ],
    output:
        manifest="<results>/sources/{id}/manifest.parquet",
        losses=report(
            "<results>/sources/{id}/losses.csv",
            category="Data",
            subcategory="{id}",
            caption="report/losses.rst",
            labels={"shows": "lost rows by reason"},
        ),
    log:
        "<logs>/merge/{id}.log",
    wildcard_constraints:
        id=one_of(PLAN.data.sources),
    threads: THREADS["small"]
    resources:
        **NEEDS["small"],
    params:
        folder=subpath(output.manifest, parent=True),
    shell:
        "python -m workflow_scripts.data.merge --urls {input.urls:q} --source {params.folder:q}"
        " > {log:q} 2>&1"


rule subset:
    input:
        lambda w: f"<results>/sources/{PLAN.data.datasets[w.id]['source']}/manifest.parquet",
    output:
        "<results>/datasets/{id}/manifest.parquet",
    log:
        "<logs>/subset/{id}.log",
    wildcard_constraints:
        id=one_of(PLAN.data.datasets),
    threads: THREADS["small"]
    resources:
        **NEEDS["small"],
    params:
        pairs=lambda w: PLAN.data.datasets[w.id]["pairs"],
    shell:
        "python -m workflow_scripts.data.subset --manifest {input:q} --pairs {params.pairs:q}"
        " --output {output:q} > {log:q} 2>&1"


rule duplicates:
    input:
        manifest="<results>/datasets/{id}/manifest.parquet",
        evaluation="<results>/evaluation/{evaluation}/manifest.parquet",
    output:
        "<results>/contamination/{id}-in-{evaluation}.json",
    log:
        "<logs>/duplicates/{id}-in-{evaluation}.log",
    threads: THREADS["small"]
    resources:
        **NEEDS["small"],
    params:
        code=code_digest("data/duplicates.py"),
    shell:
        "python -m workflow_scripts.data.duplicates --manifest {input.manifest:q}"
        " --evaluation {input.evaluation:q} --output {output:q} > {log:q} 2>&1"


rule evaluation_set:
    input:
        lambda w: made_here(*declared_evaluation(w.id).values()),
    output:
        images="<results>/evaluation/{id}/images.tar",
        manifest="<results>/evaluation/{id}/manifest.parquet",
        classes="<results>/evaluation/{id}/classes.json",
        skipped="<results>/evaluation/{id}/skipped.csv",
    log:
        "<logs>/evaluation_set/{id}.log",
    benchmark:
        "<benchmarks>/evaluation_set/{id}.jsonl"
    wildcard_constraints:
        id=one_of(PLAN.data.evaluations),
    threads: THREADS["evaluation_set"]
    resources:
        **NEEDS["evaluation_set"],
    params:
        root=subpath(output.manifest, ancestor=3),
        folder=subpath(output.manifest, parent=True),
        arguments=lambda w: arguments("evaluation_set", w.id),
    shell:
        "python -m workflow_scripts.data.evaluation_set {params.arguments:q} --root {params.root:q}"
        " --output {params.folder:q} > {log:q} 2>&1"
