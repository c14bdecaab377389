"""The filter language: text to syntax tree. Its SQL is made in `store/filter_sql.py`."""
