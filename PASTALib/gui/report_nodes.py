"""The report of a scan in the scene: a text node that refers to its CT and segmentation, so that it is saved and loaded with them. No Qt."""

from __future__ import annotations

import slicer
from slicer.i18n import tr as _

from .report_state import ReportState

CT, LESIONS, ORGANS = "PASTA.CT", "PASTA.lesions", "PASTA.organs"
KIND = "PASTA.report"


def report_node(ct, lesions):
    """The text node of the report on this CT and segmentation; None without one."""
    if ct is None or lesions is None:
        return None
    for node in slicer.util.getNodesByClass("vtkMRMLTextNode", ct.GetScene()):
        if (
            node.GetAttribute(KIND)
            and node.GetNodeReferenceID(CT) == ct.GetID()
            and node.GetNodeReferenceID(LESIONS) == lesions.GetID()
        ):
            return node
    return None


def keep_report(state: ReportState, ct, lesions, organs=None):
    """Write a report into its text node, which is made when there is none; returns it."""
    node = report_node(ct, lesions)
    if node is None:
        scene = ct.GetScene()
        name = _("{ct} lesion report").format(ct=ct.GetName())
        node = scene.AddNewNodeByClass("vtkMRMLTextNode", scene.GetUniqueNameByString(name))
        node.SetAttribute(KIND, "1")
        node.SetNodeReferenceID(CT, ct.GetID())
        node.SetNodeReferenceID(LESIONS, lesions.GetID())
    node.SetNodeReferenceID(ORGANS, organs.GetID() if organs is not None else None)
    node.SetText(state.to_json())
    return node


def read_report(node) -> ReportState:
    """The report in a text node; InputError when it is damaged."""
    return ReportState.from_json(node.GetText() or "")
