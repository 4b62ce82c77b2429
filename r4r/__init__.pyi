from r4r.serve.entrance import compose as compose
from r4r.serve.entrance import load as load
from r4r.serve.entrance import open_artifact as open_artifact
from r4r.serve.entrance import open_record as open_record
from r4r.serve.entrance import run_job as run_job

__version__: str
