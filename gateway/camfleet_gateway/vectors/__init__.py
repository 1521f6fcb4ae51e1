"""Where a face was seen: vectors of events in milvus-lite or a Milvus server, rebuilt from the database."""
