"""SQL answers: the rows of a query compared with the gold query's."""
