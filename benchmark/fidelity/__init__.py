"""Is each method its release? Recorded outputs of releases and toolboxes, and what is compared with them."""
