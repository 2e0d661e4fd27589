"""Where uniques are read from: a state folder, a changelog, an export, files."""
