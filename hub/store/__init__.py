"""All SQL of the hub, the migrations, the embedded server and the spool."""
