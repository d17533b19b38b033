# Needs: URL lists and labelled images, as `sources` and `evaluations` declare them.
# Makes: image shards, one manifest of usable pairs for each source, subsets, evaluation sets.


def parts(source):
    return [f"{i:05d}" for i in range(config["sources"][source]["parts"])]


rule url_list:
    input:
        lambda w: made_here(config["sources"][w.source]["list"]),
    output:
        urls="<results>/sources/{source}/urls.parquet",
        report="<results>/sources/{source}/urls.json",
    log:
        "<logs>/url_list/{source}.log",
    benchmark:
        "<benchmarks>/url_list/{source}.jsonl"
    conda:
        "../envs/pipeline.yaml"
    threads: NEEDS["url_list"]["threads"]
    resources:
        **NEEDS["url_list"],
    params:
        source=lambda w: config["sources"][w.source],
    shell:
        "python -m workflow_scripts.data.urls > {log} 2>&1"
