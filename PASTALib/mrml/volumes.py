"""Scalar volume nodes and ``PASTALib.volume.Volume``: reading, new nodes of the same geometry, and writes of a region."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import get_vtk_array_type, vtk_to_numpy

from ..errors import InputError
from ..imageio import files
from ..volume import Volume
from .dicom_origin import dicom_origin

Region = tuple[slice, slice, slice]
CT_WINDOW_LEVEL = (400.0, 40.0)  # soft tissue, for volumes whose display says nothing
_SLAB_BYTES = 16 << 20


@dataclass(frozen=True)
class NodeImage:
    """What ``snapshot`` took from a volume node. ``array`` (z, y, x) is a view of the node's voxels, ``affine`` maps (i, j, k) to world RAS mm."""

    name: str
    kind: str
    array: np.ndarray
    affine: np.ndarray
    meta: dict = field(default_factory=dict)

    def volume(self) -> Volume:
        """A copy as a Volume: int16 HU or uint8/uint16 labels. Touches no node, so a thread may call it.

        Raises InputError for voxels that cannot be HU (or labels), and for NaN.
        """
        sink = files.VoxelSink(self.array.shape, self.kind, self.name, self.array.dtype)
        step = max(1, _SLAB_BYTES // max(self.array[0].nbytes, 1))
        for k in range(0, len(self.array), step):
            sink.put(k, self.array[k : k + step])
        array, notes = sink.finish()
        if self.kind == "ct":
            files.check_hu(array, self.name)
        meta = {**self.meta, "notes": [*self.meta.get("notes", []), *notes]}
        return Volume(array, self.affine.copy(), meta)


def snapshot(node, kind: str = "ct", world: bool = True) -> NodeImage:
    """Check a volume node and take what ``NodeImage.volume`` needs, without a copy of the voxels (quick, in the application's thread).

    ``kind``: "ct" or "labels". ``world``: with the parent transform, which must be linear; without it the geometry is the node's own, as
    DICOM export wants it. ``meta`` holds source, format, notes and, for a volume loaded from DICOM, ``dicom`` as ``read_volume`` stores it.

    Raises InputError for a node without an image, another kind of node, several components (vector, 4D), fewer than four slices, sheared
    axes and a non-linear parent transform.
    """
    if node is None:
        raise InputError("no volume is chosen; choose a CT")
    name = node.GetName() or node.GetID()
    _check_class(node, name, kind)
    image = node.GetImageData()
    scalars = image.GetPointData().GetScalars() if image is not None and image.GetPointData() else None
    if scalars is None or scalars.GetNumberOfTuples() == 0:
        raise InputError(f"{name}: the volume holds no image; load it again or choose another")
    files.check_shape(image.GetDimensions(), scalars.GetNumberOfComponents(), name)
    own = affine_of(node, world=False)
    files.check_affine(own, name)
    affine = affine_of(node) if world else own
    if world:
        _check_transformed(affine, node, name)
    meta = {"source": name, "format": "MRML", "notes": [], **dicom_origin(node, own)}
    return NodeImage(name, kind, array_of(node), affine, meta)


def read_volume_node(node, kind: str = "ct", world: bool = True) -> Volume:
    """``snapshot`` and ``NodeImage.volume`` in one: the node as a Volume of its own memory."""
    return snapshot(node, kind, world).volume()


def _check_class(node, name: str, kind: str) -> None:
    is_labels = node.IsA("vtkMRMLLabelMapVolumeNode")
    if not node.IsA("vtkMRMLScalarVolumeNode"):
        raise InputError(f"{name}: a {_kind_of(node)}; a scalar volume is needed: choose the CT")
    if kind == "ct" and is_labels:
        raise InputError(f"{name}: a label map; a scalar volume in HU is needed: choose the CT")
    if node.IsA("vtkMRMLDiffusionTensorVolumeNode"):
        raise InputError(f"{name}: a diffusion tensor volume; a scalar volume is needed: choose the CT")


def _kind_of(node) -> str:
    return node.GetNodeTagName() or node.GetClassName()


def _check_transformed(affine: np.ndarray, node, name: str) -> None:
    transform = node.GetParentTransformNode()
    if transform is None:
        return
    try:
        files.check_affine(affine, name)
    except InputError:
        raise InputError(
            f"{name}: its parent transform '{transform.GetName()}' shears or scales it out of the usable range; harden the transform on the "
            "volume, or take the volume out of it"
        ) from None


# ---------------------------------------------------------------------------------------------------------------
# Geometry


def affine_of(node, world: bool = True) -> np.ndarray:
    """4x4 matrix from (i, j, k) of a volume node to RAS mm: of the world, or of the node itself without its parent transform.

    Raises InputError for a non-linear parent transform.
    """
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    own = slicer.util.arrayFromVTKMatrix(matrix)
    return to_world_matrix(node) @ own if world else own


def to_world_matrix(node) -> np.ndarray:
    """4x4 matrix from a transformable node's own RAS to the world's; InputError when that is not linear."""
    transform = node.GetParentTransformNode()
    if transform is None:
        return np.eye(4)
    if not transform.IsTransformToWorldLinear():
        raise InputError(
            f"{node.GetName()}: under the non-linear transform '{transform.GetName()}'; harden the transform (Data module, right click on the "
            "transform's name) or take the node out of it"
        )
    matrix = vtk.vtkMatrix4x4()
    transform.GetMatrixTransformToWorld(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


# ---------------------------------------------------------------------------------------------------------------
# New nodes


def allocate_image(shape_zyx: tuple[int, int, int], dtype) -> tuple[vtk.vtkImageData, np.ndarray]:
    """An image of this shape and its (z, y, x) array, not initialised: a thread may fill it before a node takes it."""
    image = vtk.vtkImageData()
    image.SetDimensions(*(int(n) for n in shape_zyx[::-1]))
    image.AllocateScalars(get_vtk_array_type(np.dtype(dtype)), 1)
    return image, vtk_to_numpy(image.GetPointData().GetScalars()).reshape(shape_zyx)


def add_volume_node(image: vtk.vtkImageData, like, name: str):
    """A scalar volume node that takes ``image``, with geometry, display (window, level, colours) and parent transform of ``like``."""
    scene = like.GetScene()
    display = scene.AddNode(_display_like(like.GetDisplayNode()))
    node = slicer.vtkMRMLScalarVolumeNode()
    node.SetName(scene.GetUniqueNameByString(name))
    node.CopyOrientation(like)
    node.SetAndObserveImageData(image)
    scene.AddNode(node)
    node.SetAndObserveDisplayNodeID(display.GetID())
    node.SetAndObserveTransformNodeID(like.GetTransformNodeID())
    return node


def new_volume_node(array: np.ndarray, like, name: str):
    """``add_volume_node`` with a copy of ``array`` (z, y, x), which must have the shape of ``like``."""
    if array.shape != array_of(like).shape:
        raise ValueError(f"array of shape {array.shape}; the volume {like.GetName()} has {array_of(like).shape}")
    array = array.view(np.uint8) if array.dtype == np.bool_ else array
    image, target = allocate_image(array.shape, array.dtype)
    target[...] = array
    return add_volume_node(image, like, name)


def _display_like(source):
    """A display node with a fixed window and level: automatic ones are computed anew from all voxels at every change."""
    display = slicer.vtkMRMLScalarVolumeDisplayNode()
    display.SetAutoWindowLevel(0)
    if source is None:
        display.SetWindowLevel(*CT_WINDOW_LEVEL)
        display.SetAndObserveColorNodeID("vtkMRMLColorTableNodeGrey")
        return display
    display.SetWindowLevel(source.GetWindow(), source.GetLevel())
    display.SetInterpolate(source.GetInterpolate())
    display.SetInvertDisplayScalarRange(source.GetInvertDisplayScalarRange())
    display.SetAndObserveColorNodeID(source.GetColorNodeID())
    return display


def remove_node(node) -> None:
    """Remove a node with its display and storage nodes; None and nodes that are gone already are passed over."""
    if node is None or node.GetScene() is None:
        return
    scene = node.GetScene()
    helpers = []
    if node.IsA("vtkMRMLDisplayableNode"):
        helpers += [node.GetNthDisplayNode(i) for i in range(node.GetNumberOfDisplayNodes())]
    if node.IsA("vtkMRMLStorableNode"):
        helpers += [node.GetNthStorageNode(i) for i in range(node.GetNumberOfStorageNodes())]
    scene.RemoveNode(node)
    for helper in helpers:
        if helper is not None and helper.GetScene() is scene:
            scene.RemoveNode(helper)


# ---------------------------------------------------------------------------------------------------------------
# Regions


@dataclass(frozen=True)
class RegionBackup:
    """Voxels of a node as they were: ``slices`` (z, y, x), ``where`` (bool, on the region) or None for all of it, ``values`` of the node's type."""

    slices: Region
    where: np.ndarray | None
    values: np.ndarray


def array_of(node) -> np.ndarray:
    """The node's voxels (z, y, x), not a copy. After writing to it call ``mark_modified``."""
    return slicer.util.arrayFromVolume(node)


def write_region(
    node, slices: Region, array: np.ndarray, where: np.ndarray | None = None, show: bool = True
) -> RegionBackup:
    """Write ``array`` into the box ``slices`` (z, y, x) of a volume node, in place, and return what was there for ``restore_region``.

    ``where``: bool mask of the box; other voxels stay. Values are rounded and clipped to the node's type. ``show``: False leaves the
    Modified events, which make the views draw, to a later ``mark_modified``. ValueError for a shape that does not fit.
    """
    view = array_of(node)[slices]
    if array.shape != view.shape or (where is not None and where.shape != view.shape):
        raise ValueError(f"array of shape {array.shape} for a region of {view.shape}")
    if where is None:
        backup = RegionBackup(slices, None, view.copy())
        view[...] = _as_type(array, view.dtype)
    else:
        backup = RegionBackup(slices, where, view[where])
        view[where] = _as_type(array[where], view.dtype)
    if show:
        mark_modified(node)
    return backup


def restore_region(node, backup: RegionBackup, show: bool = True) -> None:
    """Put back, bit for bit, what ``write_region`` replaced. Writes that overlap are undone in the opposite order."""
    view = array_of(node)[backup.slices]
    if backup.where is None:
        view[...] = backup.values
    else:
        view[backup.where] = backup.values
    if show:
        mark_modified(node)


def mark_modified(node) -> None:
    """Tell the scene that voxels of the node have changed, so that slice views draw them and saving knows."""
    slicer.util.arrayFromVolumeModified(node)


def _as_type(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    if values.dtype == dtype or dtype.kind == "f":
        return values.astype(dtype, copy=False)
    limits = np.iinfo(dtype)
    whole = np.rint(values) if values.dtype.kind == "f" else values
    return np.clip(whole, limits.min, limits.max).astype(dtype)
