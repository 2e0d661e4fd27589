"""Sources of uniques: a state folder, a changelog, an export, files."""
