"""Slice and 3D views rendered off screen by the real displayable managers."""

from __future__ import annotations

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from .interaction import Mouse

SLICE_MANAGERS = (
    "vtkMRMLVolumeGlyphSliceDisplayableManager",
    "vtkMRMLModelSliceDisplayableManager",
    "vtkMRMLSegmentationsDisplayableManager2D",
    "vtkMRMLTransformsDisplayableManager2D",
    "vtkMRMLMarkupsDisplayableManager",
    "vtkMRMLCrosshairDisplayableManager",
    "vtkMRMLOrientationMarkerDisplayableManager",
    "vtkMRMLRulerDisplayableManager",
)
THREED_MANAGERS = (
    "vtkMRMLCameraDisplayableManager",
    "vtkMRMLViewDisplayableManager",
    "vtkMRMLModelDisplayableManager",
    "vtkMRMLSegmentationsDisplayableManager3D",
    "vtkMRMLTransformsDisplayableManager3D",
    "vtkMRMLMarkupsDisplayableManager",
    "vtkMRMLCrosshairDisplayableManager3D",
    "vtkMRMLVolumeRenderingDisplayableManager",
    "vtkMRMLOrientationMarkerDisplayableManager",
)


class View:
    """A render window with a renderer, an interactor and a group of displayable managers."""

    def __init__(self, size: tuple[int, int], factory, managers):
        self.renderer = vtk.vtkRenderer()
        self.window = vtk.vtkRenderWindow()
        self.window.SetOffScreenRendering(1)
        self.window.SetMultiSamples(0)
        self.window.SetSize(*size)
        self.window.AddRenderer(self.renderer)
        self.interactor = vtk.vtkRenderWindowInteractor()
        self.interactor.SetRenderWindow(self.window)
        self.interactor.SetInteractorStyle(vtk.vtkInteractorStyleUser())
        for name in managers:
            if not factory.IsDisplayableManagerRegistered(name):
                factory.RegisterDisplayableManager(name)
        self.managers = slicer.vtkMRMLDisplayableManagerGroup()
        self.managers.SetRenderer(self.renderer)
        self.managers.Initialize(factory, self.renderer)
        self.mouse = Mouse(self.interactor)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return tuple(self.window.GetSize())

    def render_window(self) -> None:
        """Render without reading the picture."""
        self.window.Render()

    def render(self) -> np.ndarray:
        """The view as uint8 RGB, (height, width, 3), first row on top."""
        self.render_window()
        grab = vtk.vtkWindowToImageFilter()
        grab.SetInput(self.window)
        grab.ReadFrontBufferOff()
        grab.Update()
        image = grab.GetOutput()
        width, height, _ = image.GetDimensions()
        pixels = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(height, width, -1)
        return np.ascontiguousarray(pixels[::-1, :, :3])


class SliceView(View):
    """One of the slice views, with Slicer's slice logic and mouse handling."""

    def __init__(self, name: str, orientation: str, size: tuple[int, int]):
        factory = slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance()
        super().__init__(size, factory, SLICE_MANAGERS)
        self.name = name
        self.renderer.GetActiveCamera().ParallelProjectionOn()
        application_logic = slicer.app.applicationLogic()
        self.logic = slicer.vtkMRMLSliceLogic()
        self.logic.SetMRMLApplicationLogic(application_logic)
        application_logic.GetSliceLogics().AddItem(self.logic)
        self.logic.SetMRMLScene(slicer.mrmlScene)
        self.node = self.logic.AddSliceNode(name)
        self.node.SetOrientation(orientation)
        self.node.SetLayoutLabel(name[0])
        self.managers.SetMRMLDisplayableNode(self.node)
        self.logic.ResizeSliceNode(*size)
        self._mapper = vtk.vtkImageMapper()
        self._mapper.SetColorWindow(255)
        self._mapper.SetColorLevel(127.5)
        self._actor = vtk.vtkActor2D()
        self._actor.SetMapper(self._mapper)
        self._actor.GetProperty().SetDisplayLocationToBackground()
        self.style = slicer.vtkMRMLSliceViewInteractorStyle()
        self.style.SetSliceLogic(self.logic)
        self.style.SetDisplayableManagers(self.managers)
        self.style.SetInteractor(self.interactor)
        self.interactor.Initialize()

    def render_window(self) -> None:
        # The connection is another one whenever layers come or go, and none for an empty slice.
        connection = self.logic.GetImageDataConnection()
        self._mapper.SetInputConnection(connection)
        if (connection is not None) != bool(self.renderer.HasViewProp(self._actor)):
            (self.renderer.AddViewProp if connection is not None else self.renderer.RemoveViewProp)(self._actor)
        super().render_window()

    def resize(self, width: int, height: int) -> None:
        self.window.SetSize(width, height)
        self.logic.ResizeSliceNode(width, height)

    def show(self, volume) -> None:
        """Show a volume as the background and fit it into the view."""
        self.logic.GetSliceCompositeNode().SetBackgroundVolumeID(volume.GetID())
        self.fit()

    def fit(self) -> None:
        self.logic.ResizeSliceNode(*self.size)
        self.logic.FitSliceToBackground()

    def zoom(self, field_of_view_mm: float) -> None:
        """Show that many millimetres across the view's width, about the same centre."""
        width, height = self.size
        self.node.SetFieldOfView(field_of_view_mm, field_of_view_mm * height / width, self.node.GetFieldOfView()[2])

    def jump_to(self, ras, centre: bool = False) -> None:
        """Show the slice through a point, with the point in the middle if wanted."""
        (self.node.JumpSliceByCentering if centre else self.node.JumpSliceByOffsetting)(*ras)

    def pixel_to_ras(self, x: float, y: float) -> np.ndarray:
        """World position (mm) of a pixel; y counts from the bottom, as VTK's mouse positions do."""
        return np.array(self.node.GetXYToRAS().MultiplyPoint((x, y, 0.0, 1.0))[:3])

    def ras_to_pixel(self, ras) -> tuple[float, float, float]:
        """Position in pixels (x, y from the bottom) and distance from the slice in its own units."""
        inverse = vtk.vtkMatrix4x4()
        vtk.vtkMatrix4x4.Invert(self.node.GetXYToRAS(), inverse)
        return inverse.MultiplyPoint((*ras, 1.0))[:3]

    def pixel_of(self, ras) -> tuple[int, int]:
        """The pixel that shows a point; ValueError when the point is not in this slice or not in sight."""
        x, y, off = self.ras_to_pixel(ras)
        if abs(off) > 0.51:
            raise ValueError(f"{tuple(ras)} does not lie in the slice that {self.name} shows: jump_to it first")
        pixel = round(x), round(y)
        if not (0 <= pixel[0] < self.size[0] and 0 <= pixel[1] < self.size[1]):
            raise ValueError(f"{tuple(ras)} is outside the field of view of {self.name}: pixel {pixel} of {self.size}")
        return pixel

    def click_ras(self, ras, **options) -> np.ndarray:
        """Click where a point is shown; returns the world position of the pixel that was hit."""
        x, y = self.pixel_of(ras)
        self.mouse.click(x, y, **options)
        return self.pixel_to_ras(x, y)

    def drag_ras(self, start, end, steps: int = 8, **options) -> None:
        """Press on one point, move to the other, release."""
        self.mouse.drag(self.pixel_of(start), self.pixel_of(end), steps, **options)


def three_d_logic(name: str):
    """The logic of a 3D view with its node in the scene."""
    application_logic = slicer.app.applicationLogic()
    logic = slicer.vtkMRMLViewLogic()
    logic.SetMRMLApplicationLogic(application_logic)
    application_logic.GetViewLogics().AddItem(logic)
    logic.SetName(name)  # by which it finds its node again after the scene was closed
    logic.SetMRMLScene(slicer.mrmlScene)
    logic.AddViewNode(name)
    return logic


class ThreeDView(View):
    """The 3D view of a logic."""

    def __init__(self, logic, size: tuple[int, int]):
        factory = slicer.vtkMRMLThreeDViewDisplayableManagerFactory.GetInstance()
        super().__init__(size, factory, THREED_MANAGERS)
        self.logic = logic
        self.node = logic.GetViewNode()
        self.name = self.node.GetLayoutName()
        self.managers.SetMRMLDisplayableNode(self.node)
        self.style = slicer.vtkMRMLThreeDViewInteractorStyle()
        self.style.SetDisplayableManagers(self.managers)
        self.style.SetInteractor(self.interactor)
        self.interactor.Initialize()

    def resize(self, width: int, height: int) -> None:
        self.window.SetSize(width, height)

    def reset_camera(self) -> None:
        """Look at everything that is visible, the box and the axis labels apart."""
        shown = self.node.GetBoxVisible(), self.node.GetAxisLabelsVisible()
        self.node.SetBoxVisible(0)
        self.node.SetAxisLabelsVisible(0)
        self.window.Render()
        self.renderer.ResetCamera()
        self.node.SetBoxVisible(shown[0])
        self.node.SetAxisLabelsVisible(shown[1])
        self.renderer.ResetCameraClippingRange()

    def pixel_of(self, ras) -> tuple[int, int]:
        """The pixel (y from the bottom) where a point is drawn."""
        self.renderer.SetWorldPoint(*ras, 1.0)
        self.renderer.WorldToDisplay()
        x, y, _ = self.renderer.GetDisplayPoint()
        return round(x), round(y)
