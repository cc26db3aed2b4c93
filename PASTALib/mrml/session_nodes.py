"""The nodes that a synthesis session makes: output volume, lesion segmentation, table of reports, and what it needs to go on."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import InputError
from .segmentations import new_segmentation_node
from .tables import new_table_node
from .volumes import add_volume_node, remove_node

# Roles of the output volume's node references.
CT, ORGANS, SEGMENTATION, TABLE, STATE = "PASTA.CT", "PASTA.Organs", "PASTA.Lesions", "PASTA.Reports", "PASTA.State"


@dataclass
class SessionNodes:
    """``output``, ``segmentation``, ``table`` and ``state`` (hidden text) belong to the session, ``ct`` and ``organs`` to the user."""

    ct: object
    organs: object
    output: object
    segmentation: object
    table: object
    state: object

    @classmethod
    def create(cls, ct, organs, image) -> SessionNodes:
        """New nodes beside the CT, under its parent transform; ``image``: the output's voxels."""
        scene, name = ct.GetScene(), ct.GetName()
        output = add_volume_node(image, ct, f"{name} + lesions")
        segmentation = new_segmentation_node(output, f"{name} lesions")
        table = new_table_node(scene, f"{name} lesion reports")
        state = scene.AddNewNodeByClass("vtkMRMLTextNode", scene.GetUniqueNameByString(f"{name} lesions, session"))
        state.SetHideFromEditors(True)
        nodes = cls(ct, organs, output, segmentation, table, state)
        for role, node in ((CT, ct), (ORGANS, organs), (SEGMENTATION, segmentation), (TABLE, table), (STATE, state)):
            output.SetNodeReferenceID(role, node.GetID())
        nodes._beside_the_ct()
        return nodes

    @classmethod
    def find(cls, output) -> SessionNodes:
        """The nodes of a saved session; a segmentation or table that was deleted is made anew."""
        ct, organs, segmentation, table, state = (
            output.GetNodeReference(role) for role in (CT, ORGANS, SEGMENTATION, TABLE, STATE)
        )
        if segmentation is None:
            segmentation = new_segmentation_node(output, f"{ct.GetName()} lesions")
            output.SetNodeReferenceID(SEGMENTATION, segmentation.GetID())
        if table is None:
            table = new_table_node(output.GetScene(), f"{ct.GetName()} lesion reports")
            output.SetNodeReferenceID(TABLE, table.GetID())
        return cls(ct, organs, output, segmentation, table, state)

    def check(self) -> None:
        """InputError when a node of the session is no longer in the scene."""
        for node in (self.output, self.segmentation, self.table, self.state):
            if node.GetScene() is None:
                raise InputError(f"{node.GetName()}: no longer in the scene; start anew by choosing the CT again")

    def remove(self) -> None:
        """Take everything that the session made out of the scene, with display and storage nodes."""
        for node in (self.output, self.segmentation, self.table, self.state):
            remove_node(node)

    def _beside_the_ct(self) -> None:
        """In the subject hierarchy the new nodes lie where the CT lies, in its study."""
        hierarchy = self.ct.GetScene().GetFirstNodeByClass("vtkMRMLSubjectHierarchyNode")
        item = hierarchy.GetItemByDataNode(self.ct) if hierarchy is not None else 0
        if not item:
            return
        for node in (self.output, self.segmentation, self.table):
            own = hierarchy.GetItemByDataNode(node)
            if own:
                hierarchy.SetItemParent(own, hierarchy.GetItemParent(item))


def sessions_in(scene) -> list:
    """Output volumes in a scene that a session can be reopened from, in the order of the scene."""
    count = scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode")
    nodes = [scene.GetNthNodeByClass(i, "vtkMRMLScalarVolumeNode") for i in range(count)]
    return [node for node in nodes if node.GetNodeReference(STATE) is not None]
