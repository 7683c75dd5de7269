"""Real servers for a machine without any: PostgreSQL, two Valkeys and Temporal as child processes under one supervisor."""
