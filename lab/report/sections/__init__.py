"""The sections of a study's report as plain values, one file each; `lab.page` shows them."""
