# Needs: URL lists and labelled images, as `sources` and `evaluations` of the config declare them.
# Makes: image shards and one manifest of usable pairs for each source, subsets, evaluation sets,
#        and how many images stand in both.


rule url_list:
    input:
        world=lambda w: world_files(w.source),
        list=lambda w: made_here(config["sources"][w.source]["list"]),
    output:
        report="<results>/sources/{source}/urls.json",
        parts=directory("<results>/sources/{source}/parts"),
    log:
        "<logs>/url_list/{source}.log",
    benchmark:
        "<benchmarks>/url_list/{source}.jsonl"
    conda:
        "../envs/pipeline.yaml"
    threads: THREADS["url_list"]
    resources:
        **NEEDS["url_list"],
    params:
        folder=subpath(output.report, parent=True),
        serve=lambda w: server(w.source),
        options=lambda w: options(list_options(w.source)),
    shell:
        "exec {params.serve} python -m workflow_scripts.data.urls {params.options:q} --output {params.folder:q}"
        " > {log:q} 2>&1"


rule download:
    input:
        parts="<results>/sources/{source}/parts",
        world=lambda w: world_files(w.source),
    output:
        directory("<results>/sources/{source}/shards/{part}"),
    log:
        "<logs>/download/{source}/{part}.log",
    benchmark:
        "<benchmarks>/download/{source}/{part}.jsonl"
    # The network fails at times, and once the process did, when all was written, on its way out.
    retries: 2
    conda:
        "../envs/pipeline.yaml"
    threads: THREADS["download"]
    resources:
        **NEEDS["download"],
    params:
        serve=lambda w: server(w.source),
        image_size=config["image_size"],
        options=options({k: v for k, v in config["download"].items() if k != "min_size"}),
    shell:
        "exec {params.serve} python -m workflow_scripts.data.download --part {input.parts:q}/{wildcards.part}.parquet"
        " --output {output:q} --image-size {params.image_size:q} --processes {threads}"
        " {params.options:q} > {log:q} 2>&1"


rule usable:
    input:
        parts="<results>/sources/{source}/parts",
        shards="<results>/sources/{source}/shards/{part}",
    output:
        pairs="<results>/sources/{source}/pairs/{part}.parquet",
        report="<results>/sources/{source}/pairs/{part}.json",
    log:
        "<logs>/usable/{source}/{part}.log",
    conda:
        "../envs/pipeline.yaml"
    threads: THREADS["usable"]
    resources:
        **NEEDS["usable"],
    params:
        root=subpath(output.pairs, ancestor=4),
        min_size=config["download"]["min_size"],
    shell:
        "python -m workflow_scripts.data.usable --part {input.parts:q}/{wildcards.part}.parquet"
        " --shards {input.shards:q} --root {params.root:q} --min-size {params.min_size:q}"
        " --workers {threads} --output {output.pairs:q} > {log:q} 2>&1"


rule merge:
    input:
        urls="<results>/sources/{source}/urls.json",
        pairs=lambda w: [
            f"<results>/sources/{w.source}/pairs/{part}.{end}"
            for part in parts(w.source)
            for end in ("parquet", "json")
        ],
    output:
        manifest="<results>/sources/{source}/manifest.parquet",
        losses=report(
            "<results>/sources/{source}/losses.csv",
            category="Data",
            subcategory="{source}",
            caption="report/losses.rst",
            labels={"shows": "rows lost, and why"},
        ),
    log:
        "<logs>/merge/{source}.log",
    conda:
        "../envs/pipeline.yaml"
    threads: THREADS["small"]
    resources:
        **NEEDS["small"],
    params:
        folder=subpath(output.manifest, parent=True),
    shell:
        "python -m workflow_scripts.data.merge --source {params.folder:q} > {log:q} 2>&1"


rule subset:
    input:
        lambda w: f"<results>/sources/{PLAN.datasets[w.id]['source']}/manifest.parquet",
    output:
        "<results>/datasets/{id}/manifest.parquet",
    log:
        "<logs>/subset/{id}.log",
    conda:
        "../envs/pipeline.yaml"
    threads: THREADS["small"]
    resources:
        **NEEDS["small"],
    params:
        pairs=lambda w: PLAN.datasets[w.id]["pairs"],
    shell:
        "python -m workflow_scripts.data.subset --manifest {input:q} --pairs {params.pairs:q}"
        " --output {output:q} > {log:q} 2>&1"


rule duplicates:
    input:
        manifest="<results>/datasets/{id}/manifest.parquet",
        evaluation=f"<results>/evaluation/{config['evaluation']}/manifest.parquet",
    output:
        "<results>/datasets/{id}/duplicates.json",
    log:
        "<logs>/duplicates/{id}.log",
    conda:
        "../envs/pipeline.yaml"
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
        lambda w: made_here(*config["evaluations"][w.evaluation].values()),
    output:
        images="<results>/evaluation/{evaluation}/images.tar",
        manifest="<results>/evaluation/{evaluation}/manifest.parquet",
        classes="<results>/evaluation/{evaluation}/classes.json",
    log:
        "<logs>/evaluation_set/{evaluation}.log",
    benchmark:
        "<benchmarks>/evaluation_set/{evaluation}.jsonl"
    conda:
        "../envs/pipeline.yaml"
    threads: THREADS["evaluation_set"]
    resources:
        **NEEDS["evaluation_set"],
    params:
        root=subpath(output.manifest, ancestor=3),
        folder=subpath(output.manifest, parent=True),
        options=lambda w: options(config["evaluations"][w.evaluation]),
    shell:
        "python -m workflow_scripts.data.evaluation {params.options:q} --root {params.root:q}"
        " --output {params.folder:q} > {log:q} 2>&1"
