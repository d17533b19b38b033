"""The steps of the workflow, one folder for each stage; none of them knows of Snakemake."""
