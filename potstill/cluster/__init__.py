"""Work on several machines through Ray: connecting (`connect.py`) and a pool of replicas (`pool.py`)."""
