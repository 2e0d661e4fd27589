"""`dugs evaluate`: uniques beside other ways of picking as many records, on labelled data."""
