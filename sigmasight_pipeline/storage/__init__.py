"""Tables, migrations, partition writes, windows, embedded server: everything that touches PostgreSQL, no finance."""
